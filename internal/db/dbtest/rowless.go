package dbtest

import (
	"net"
	"testing"

	"github.com/jackc/pgx/v5/pgproto3"
)

// Rowless returns the address of a server that lets everybody in and answers every statement with no row and no word, as a pooler under load
// does now and then. Connections to it are checked: it is asked whether it takes writes.
func Rowless(t testing.TB) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			server := pgproto3.NewBackend(conn, conn)
			_, err = server.ReceiveStartupMessage()
			for server.Send(&pgproto3.AuthenticationOk{}); err == nil; _, err = server.Receive() {
				server.Send(&pgproto3.ReadyForQuery{TxStatus: 'I'})
				if server.Flush() != nil {
					break
				}
			}
			conn.Close()
		}
	}()
	return "postgres://patchbay@" + listener.Addr().String() + "/patchbay?sslmode=disable&target_session_attrs=read-write"
}
