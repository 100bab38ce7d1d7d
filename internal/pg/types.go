package pg

import (
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"
	"github.com/jackc/pgx/v5/pgtype/zeronull"
)

// ID names a row: a UUIDv7, made here so that a ciphertext can be bound to it before the row exists. The zero ID is NULL in
// Postgres.
type ID = uuid.UUID

// NewID returns a fresh id.
func NewID() ID { return uuid.Must(uuid.NewV7()) }

// ParseID parses an id of an address. It returns ErrNotFound for a malformed one, as for any that does not exist.
func ParseID(s string) (ID, error) {
	id, err := uuid.Parse(s)
	if err != nil || len(s) != 36 {
		return ID{}, ErrNotFound
	}
	return id, nil
}

// registerTypes has a connection write zero ids and times as NULL and read NULL as zero, and read times in UTC. Ids are
// carried as their sixteen bytes: by itself pgx formats each as text, fails to send that, and parses it again.
func registerTypes(conn *pgx.Conn) {
	register := func(name string, oid, arrayOID uint32, codec pgtype.Codec) {
		one := &pgtype.Type{Name: name, OID: oid, Codec: codec}
		conn.TypeMap().RegisterType(one)
		conn.TypeMap().RegisterType(&pgtype.Type{Name: "_" + name, OID: arrayOID, Codec: &pgtype.ArrayCodec{ElementType: one}})
	}
	register("uuid", pgtype.UUIDOID, pgtype.UUIDArrayOID, idCodec{})
	register("timestamptz", pgtype.TimestamptzOID, pgtype.TimestamptzArrayOID, timeCodec{&pgtype.TimestamptzCodec{ScanLocation: time.UTC}})
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
	switch {
	case !ok:
		return nil, fmt.Errorf("encode %T as an id", value)
	case id == ID{}:
		return nil, nil
	}
	return append(buf, id[:]...), nil
}

type scanID struct{}

func (scanID) Scan(src []byte, target any) error {
	id, ok := target.(*ID)
	switch {
	case !ok || src != nil && len(src) != len(id):
		return errors.New("a column that is no id")
	case src == nil:
		*id = ID{}
	default:
		copy(id[:], src)
	}
	return nil
}

type timeCodec struct{ *pgtype.TimestamptzCodec }

func (c timeCodec) PlanEncode(m *pgtype.Map, oid uint32, format int16, value any) pgtype.EncodePlan {
	if _, ok := value.(time.Time); ok {
		return encodeTime{c.TimestamptzCodec.PlanEncode(m, oid, format, zeronull.Timestamptz{})}
	}
	return c.TimestamptzCodec.PlanEncode(m, oid, format, value)
}

func (c timeCodec) PlanScan(m *pgtype.Map, oid uint32, format int16, target any) pgtype.ScanPlan {
	if _, ok := target.(*time.Time); ok {
		return scanTime{c.TimestamptzCodec.PlanScan(m, oid, format, &zeronull.Timestamptz{})}
	}
	return c.TimestamptzCodec.PlanScan(m, oid, format, target)
}

type encodeTime struct{ plan pgtype.EncodePlan }

func (e encodeTime) Encode(value any, buf []byte) ([]byte, error) {
	t, ok := value.(time.Time)
	if !ok {
		return nil, fmt.Errorf("encode %T as a time", value)
	}
	return e.plan.Encode(zeronull.Timestamptz(t), buf)
}

type scanTime struct{ plan pgtype.ScanPlan }

func (s scanTime) Scan(src []byte, target any) error {
	t, ok := target.(*time.Time)
	if !ok {
		return fmt.Errorf("scan a time into %T", target)
	}
	return s.plan.Scan(src, (*zeronull.Timestamptz)(t))
}
