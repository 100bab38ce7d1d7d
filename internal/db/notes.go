package db

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"

	"patchbay/internal/audit"
	"patchbay/internal/pg"
	"patchbay/internal/status"
)

// Note is what staff wrote about a connection for each other.
type Note struct {
	ID, Author pg.ID
	At         time.Time
	Text       string
}

// maxNotes is how many notes of a connection are listed, the newest first.
const maxNotes = 200

// Notes returns the notes about a connection, newest first.
func (d *DB) Notes(ctx context.Context, connection pg.ID) ([]Note, error) {
	return pg.Collect(ctx, d.Pool, "read notes", func(row pgx.CollectableRow) (Note, error) {
		var n Note
		return n, row.Scan(&n.ID, &n.Author, &n.At, &n.Text)
	}, `SELECT id, author_id, created_at, text FROM notes WHERE connection_id = $1 ORDER BY created_at DESC, id DESC LIMIT $2`, connection, maxNotes)
}

// AddNote writes a note about a connection. Its event does not hold the text. It returns ErrNotFound if there is no such connection.
func (d *DB) AddNote(ctx context.Context, by audit.Actor, connection pg.ID, text string) error {
	return d.Tx(ctx, func(tx pgx.Tx) error {
		c, err := pg.One(ctx, tx, "read connection", scanConnection, `SELECT `+connectionColumns+` FROM connections c WHERE c.id = $1 FOR KEY SHARE`, connection)
		if err != nil {
			return err
		}
		if _, err := pg.Exec(ctx, tx, "add note", `INSERT INTO notes (id, connection_id, author_id, created_at, text) VALUES ($1, $2, $3, $4, $5)`,
			pg.NewID(), connection, by.ID, d.Now(), text); err != nil {
			return err
		}
		return d.Audit.Add(ctx, tx, audit.Event{Kind: status.ConnectionNoted, Actor: by, MerchantID: c.MerchantID, ConnectionID: c.ID, Provider: c.Provider})
	})
}

// DeleteNote deletes a note about a connection. It returns ErrNotFound if there is none, or if it is another's and by is no admin.
func (d *DB) DeleteNote(ctx context.Context, by audit.Actor, connection, note pg.ID) error {
	return d.Tx(ctx, func(tx pgx.Tx) error {
		c, err := pg.One(ctx, tx, "delete note", scanConnection, `WITH gone AS (DELETE FROM notes WHERE id = $2 AND connection_id = $1 AND (author_id = $3 OR $4) RETURNING connection_id)
			SELECT `+connectionColumns+` FROM connections c JOIN gone ON c.id = gone.connection_id`, connection, note, by.ID, by.Role == audit.RoleAdmin)
		if err != nil {
			return err
		}
		return d.Audit.Add(ctx, tx, audit.Event{Kind: status.ConnectionNoteDeleted, Actor: by, MerchantID: c.MerchantID, ConnectionID: c.ID, Provider: c.Provider})
	})
}
