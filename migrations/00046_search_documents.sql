-- Searching with pg_trgm as it comes, without counts of letters: internal/search has the rule. What is searched is written by
-- the program beside the connection, in the same transaction, not by triggers.

-- +goose Up
DROP TRIGGER connections_before ON connections;
DROP TRIGGER connections_after_insert ON connections;
DROP TRIGGER connections_after_update ON connections;
DROP TRIGGER merchants_after ON merchants;
DROP TRIGGER users_after ON users;
DROP TRIGGER grants_used ON grants;
DROP FUNCTION connections_before, connections_after, merchants_after, users_after, grants_used, finds_write(uuid);

-- A connection's text, its merchant's included, and its sort keys that hardly ever change. Apart from the connection, so that
-- changes of state leave the index of words alone.
CREATE TABLE search_documents (
    id           uuid PRIMARY KEY REFERENCES connections ON DELETE CASCADE,
    merchant_id  uuid NOT NULL,
    provider     text NOT NULL,
    environment  text NOT NULL,
    connected_at timestamptz NOT NULL,
    account_key  text NOT NULL,
    merchant_key text NOT NULL,
    words        text NOT NULL
);
INSERT INTO search_documents (id, merchant_id, provider, environment, connected_at, account_key, merchant_key, words)
SELECT f.id, c.merchant_id, f.provider, f.environment, f.connected_at, c.account_key, f.merchant_key, f.words
FROM finds f JOIN connections c ON c.id = f.id ORDER BY f.connected_at;
CREATE INDEX search_documents_words ON search_documents USING gin (words gin_trgm_ops) WITH (gin_pending_list_limit = 512);
CREATE INDEX search_documents_connected ON search_documents (connected_at, id);
CREATE INDEX search_documents_account ON search_documents (account_key, id);
CREATE INDEX search_documents_merchant_key ON search_documents (merchant_key, id);
CREATE INDEX search_documents_merchant ON search_documents (merchant_id);
-- So that how common a word is can be estimated when a search is planned.
ALTER TABLE search_documents ALTER COLUMN words SET STATISTICS 300;

DROP TABLE finds, grams;
DROP FUNCTION search_grams(text, timestamptz);
ALTER TABLE connections DROP COLUMN search;

-- The dictionary in which mistyped words are looked up.
ALTER TABLE words RENAME TO search_words;
ALTER INDEX words_pkey RENAME TO search_words_pkey;
ALTER INDEX words_similar RENAME TO search_words_similar;
ALTER FUNCTION words_of(text) RENAME TO search_words_of;

-- Lists walk one of the orders, or gather the connections of a facet.
DROP INDEX connections_facet_used;
ALTER INDEX connections_facet_connected RENAME TO connections_facets;
-- What a search that has found documents must know of their connections.
CREATE INDEX connections_states ON connections (id) INCLUDE (state, used_on, health_order);

-- The filter of a bulk is stored as such.
DELETE FROM bulks;
ALTER TABLE bulks DROP COLUMN list, DROP COLUMN filter, ADD COLUMN filter jsonb NOT NULL CHECK (filter ? 'connections' OR filter ? 'events');
