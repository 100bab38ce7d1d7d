package db

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"strings"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"
)

// ID names a row: a UUIDv7, made here so that a ciphertext can be bound to it before the row exists.
type ID = uuid.UUID

// NewID returns a fresh id.
func NewID() ID { return uuid.Must(uuid.NewV7()) }

// ParseID reads an id as it stands in an address. A malformed one is not found, like any other that does not exist.
func ParseID(s string) (ID, error) {
	id, err := uuid.Parse(s)
	if err != nil || len(s) != 36 {
		return ID{}, ErrNotFound
	}
	return id, nil
}

func nullID(id ID) *ID {
	if id == (ID{}) {
		return nil
	}
	return &id
}

func idOrZero(id *ID) ID {
	if id == nil {
		return ID{}
	}
	return *id
}

// Crockford's letters: none that a person reading them out can mistake.
const referenceLetters = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"

func newReference() string {
	b := make([]byte, 8)
	rand.Read(b)
	for i := range b {
		b[i] = referenceLetters[b[i]%32]
	}
	return string(b[:4]) + "-" + string(b[4:])
}

// Reference reads what a person typed as a reference and returns it as it is kept; "" when it is none.
func Reference(typed string) string {
	s := strings.NewReplacer("-", "", " ", "", "O", "0", "I", "1", "L", "1").Replace(strings.ToUpper(strings.TrimSpace(typed)))
	if len(s) != 8 || strings.Trim(s, referenceLetters) != "" {
		return ""
	}
	return s[:4] + "-" + s[4:]
}

// registerIDs has a connection carry ids as their sixteen bytes. By itself pgx writes each out as text, finds that it
// cannot send that, makes an error, and reads it in again.
func registerIDs(_ context.Context, conn *pgx.Conn) error {
	one := &pgtype.Type{Name: "uuid", OID: pgtype.UUIDOID, Codec: idCodec{}}
	conn.TypeMap().RegisterType(one)
	conn.TypeMap().RegisterType(&pgtype.Type{Name: "_uuid", OID: pgtype.UUIDArrayOID, Codec: &pgtype.ArrayCodec{ElementType: one}})
	return nil
}

type idCodec struct{ pgtype.UUIDCodec }

func (c idCodec) PlanEncode(m *pgtype.Map, oid uint32, format int16, value any) pgtype.EncodePlan {
	if _, ok := value.(ID); ok && format == pgtype.BinaryFormatCode {
		return encodeID{}
	}
	return c.UUIDCodec.PlanEncode(m, oid, format, value)
}

func (c idCodec) PlanScan(m *pgtype.Map, oid uint32, format int16, target any) pgtype.ScanPlan {
	if _, ok := target.(*ID); ok && format == pgtype.BinaryFormatCode {
		return scanID{}
	}
	return c.UUIDCodec.PlanScan(m, oid, format, target)
}

type encodeID struct{}

func (encodeID) Encode(value any, buf []byte) ([]byte, error) {
	id, ok := value.(ID)
	if !ok {
		return nil, fmt.Errorf("encode %T as an id", value)
	}
	return append(buf, id[:]...), nil
}

type scanID struct{}

func (scanID) Scan(src []byte, target any) error {
	id, ok := target.(*ID)
	if !ok || len(src) != len(id) {
		return errors.New("a column that is no id, or null")
	}
	copy(id[:], src)
	return nil
}
