package search

import (
	"github.com/jackc/pgx/v5"

	"patchbay/internal/pg"
)

// QueueDocument adds to a batch what writes a connection's document, and its words to the dictionary. text is what the
// connection is found by beside its nickname: see Text. The connection must have been written before, in the same transaction.
func QueueDocument(b *pgx.Batch, connection pg.ID, text string) {
	b.Queue(`WITH document AS (
			INSERT INTO search_documents (id, merchant_id, provider, environment, connected_at, account_key, merchant_key, words)
			SELECT c.id, c.merchant_id, c.provider, c.environment, c.connected_at, c.account_key, c.merchant_key, search_fold($2 || ' ' || c.nickname) || ' ' || m.words
			FROM connections c JOIN merchants m ON m.id = c.merchant_id WHERE c.id = $1
			ON CONFLICT (id) DO UPDATE SET account_key = excluded.account_key, words = excluded.words
			RETURNING words)
		INSERT INTO search_words (word) SELECT search_words_of(words) FROM document ON CONFLICT DO NOTHING`, connection, text)
}
