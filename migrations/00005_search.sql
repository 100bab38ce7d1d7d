-- What connections are found by, with pg_trgm as it comes: internal/search has the rule. Written by the program beside the
-- connection, in the same transaction.

-- +goose Up

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
CREATE INDEX search_documents_words ON search_documents USING gin (words gin_trgm_ops) WITH (gin_pending_list_limit = 512);
CREATE INDEX search_documents_connected ON search_documents (connected_at, id);
CREATE INDEX search_documents_account ON search_documents (account_key, id);
CREATE INDEX search_documents_merchant_key ON search_documents (merchant_key, id);
CREATE INDEX search_documents_merchant ON search_documents (merchant_id);
-- So that how common a word is can be estimated when a search is planned.
ALTER TABLE search_documents ALTER COLUMN words SET STATISTICS 300;

-- The dictionary in which mistyped words are looked up. Words are added and never removed.
CREATE TABLE search_words (
    word text PRIMARY KEY
);
CREATE INDEX search_words_similar ON search_words USING gin (word gin_trgm_ops);

-- +goose StatementBegin
-- The words of a text that belong into the dictionary. Ids and numbers are too many, and a similar one is another one.
CREATE FUNCTION search_words_of(text) RETURNS SETOF text LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE AS $$
    SELECT DISTINCT word FROM regexp_split_to_table($1, '[^[:alnum:]]+') AS word
    WHERE length(word) BETWEEN 3 AND 60 AND word ~ '[[:alpha:]]' AND (length(word) <= 8 OR word !~ '[0-9]' OR word ~ '[ក-៓]')
    ORDER BY word
$$;
-- +goose StatementEnd

-- +goose Down
DROP FUNCTION search_words_of(text);
DROP TABLE search_words, search_documents;
