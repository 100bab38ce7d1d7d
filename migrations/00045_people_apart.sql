-- What a merchant's people are found by stands with them, not with each of their merchant's connections: inviting
-- somebody to a merchant with ten thousand connections rewrote ten thousand rows and their place in an index. And how common
-- each run of letters is, so that a search asks for those that tell most.

-- +goose Up
ALTER TABLE users ADD COLUMN words text NOT NULL GENERATED ALWAYS AS (search_fold(email || ' ' || name)) STORED;
ALTER TABLE merchants ADD COLUMN words text NOT NULL GENERATED ALWAYS AS (search_fold(name || ' ' || coalesce(external_id, ''))) STORED;
DROP INDEX users_search, merchants_search;
CREATE INDEX users_words ON users USING gin (words gin_trgm_ops);
CREATE INDEX merchants_words ON merchants USING gin (words gin_trgm_ops);

-- What a search found can be put in the order of merchants without looking each connection up.
ALTER TABLE finds ADD COLUMN merchant_key text NOT NULL DEFAULT '';
-- +goose StatementBegin
CREATE OR REPLACE FUNCTION finds_write(connection uuid) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    found finds;
BEGIN
    SELECT c.id, c.provider, c.environment, c.connected_at, search_fold(c.search) || ' ' || m.words, get_byte(uuid_send(c.id), 15) % 64 = 0, c.merchant_key
    INTO found FROM connections c JOIN merchants m ON m.id = c.merchant_id WHERE c.id = connection;
    INSERT INTO finds (id, provider, environment, connected_at, words, sampled, merchant_key)
    VALUES (found.id, found.provider, found.environment, found.connected_at, found.words, found.sampled, found.merchant_key)
    ON CONFLICT (id) DO UPDATE SET provider = excluded.provider, environment = excluded.environment, connected_at = excluded.connected_at, words = excluded.words,
        merchant_key = excluded.merchant_key
    WHERE (finds.provider, finds.environment, finds.connected_at, finds.words, finds.merchant_key) <>
        (excluded.provider, excluded.environment, excluded.connected_at, excluded.words, excluded.merchant_key);
    INSERT INTO words (word) SELECT words_of(found.words) ON CONFLICT DO NOTHING;
END $$;

CREATE OR REPLACE FUNCTION users_after() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO words (word) SELECT words_of(NEW.words) ON CONFLICT DO NOTHING;
    RETURN NULL;
END $$;
-- +goose StatementEnd
DROP TRIGGER users_after ON users;
CREATE TRIGGER users_after AFTER INSERT OR UPDATE OF email, name ON users FOR EACH ROW EXECUTE FUNCTION users_after();

DROP INDEX finds_words, finds_sampled;
UPDATE finds f SET words = search_fold(c.search) || ' ' || m.words, merchant_key = c.merchant_key FROM connections c JOIN merchants m ON m.id = c.merchant_id WHERE c.id = f.id;
-- In the order of time, in which they are walked through and new ones come.
CLUSTER finds USING finds_connected;
ALTER TABLE finds SET WITHOUT CLUSTER;
-- +goose StatementBegin
-- The runs of four, and now of three where there is no figure: family names are that short, and many runs begin with each. And
-- the week since 1970 as one more: by it a search is kept to the latest, when there are more than a page.
CREATE FUNCTION search_grams(words text, at timestamptz) RETURNS tsvector LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE COST 10000 AS $$
    SELECT array_to_tsvector(ARRAY(
        SELECT substr(word, nth, 4) FROM unnest(string_to_array(words, ' ')) AS whole, left(whole, 255) AS word, generate_series(1, greatest(length(word) - 2, 1)) AS nth WHERE word <> ''
        UNION ALL SELECT substr(word, nth, 3) FROM unnest(string_to_array(words, ' ')) AS whole, left(whole, 255) AS word, generate_series(1, length(word) - 3) AS nth
            WHERE substr(word, nth, 3) !~ '[0-9]'
        UNION ALL SELECT 'week ' || floor(extract(epoch FROM at AT TIME ZONE 'UTC') / 604800)))
$$;
-- +goose StatementEnd
CREATE INDEX finds_words ON finds USING gin (search_grams(words, connected_at)) WITH (gin_pending_list_limit = 512);
CREATE INDEX finds_sampled ON finds USING gin (search_grams(words, connected_at)) WITH (gin_pending_list_limit = 512) WHERE sampled;
DROP FUNCTION search_grams(text);

-- How many rows of the sample have a run of letters; those of few rows are left out. Counted by upkeep.
CREATE TABLE grams (
    gram    text COLLATE "C" PRIMARY KEY,
    sampled integer NOT NULL
);

-- +goose Down
DROP TABLE grams;
DROP INDEX finds_words, finds_sampled;
-- +goose StatementBegin
CREATE OR REPLACE FUNCTION finds_write(connection uuid) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    found finds;
BEGIN
    SELECT c.id, c.provider, c.environment, c.connected_at, search_fold(c.search || ' ' || m.name || ' ' || coalesce(m.external_id, '') || ' ' ||
            coalesce((SELECT string_agg(u.email || ' ' || u.name, ' ' ORDER BY u.id) FROM users u WHERE u.merchant_id = m.id), '')),
        get_byte(uuid_send(c.id), 15) % 64 = 0
    INTO found FROM connections c JOIN merchants m ON m.id = c.merchant_id WHERE c.id = connection;
    INSERT INTO finds (id, provider, environment, connected_at, words, sampled)
    VALUES (found.id, found.provider, found.environment, found.connected_at, found.words, found.sampled)
    ON CONFLICT (id) DO UPDATE SET provider = excluded.provider, environment = excluded.environment, connected_at = excluded.connected_at, words = excluded.words
    WHERE (finds.provider, finds.environment, finds.connected_at, finds.words) <> (excluded.provider, excluded.environment, excluded.connected_at, excluded.words);
    INSERT INTO words (word) SELECT words_of(found.words) ON CONFLICT DO NOTHING;
END $$;

CREATE OR REPLACE FUNCTION users_after() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM finds_write(id) FROM connections
    WHERE merchant_id IN (CASE WHEN TG_OP <> 'DELETE' THEN NEW.merchant_id END, CASE WHEN TG_OP <> 'INSERT' THEN OLD.merchant_id END);
    RETURN NULL;
END $$;
-- +goose StatementEnd
DROP TRIGGER users_after ON users;
CREATE TRIGGER users_after AFTER INSERT OR DELETE OR UPDATE OF email, name, merchant_id ON users FOR EACH ROW EXECUTE FUNCTION users_after();
DROP INDEX users_words, merchants_words;
ALTER TABLE finds DROP COLUMN merchant_key;
ALTER TABLE users DROP COLUMN words;
ALTER TABLE merchants DROP COLUMN words;
CREATE INDEX users_search ON users USING gin (lower(email || ' ' || name) gin_trgm_ops);
CREATE INDEX merchants_search ON merchants USING gin (lower(name || ' ' || coalesce(external_id, '')) gin_trgm_ops);
SELECT count(finds_write(id)) FROM connections;
-- +goose StatementBegin
CREATE FUNCTION search_grams(words text) RETURNS tsvector LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE COST 10000 AS $$
    SELECT array_to_tsvector(ARRAY(
        SELECT substr(word, at, 4) FROM unnest(string_to_array(words, ' ')) AS whole, left(whole, 255) AS word, generate_series(1, greatest(length(word) - 2, 1)) AS at WHERE word <> ''))
$$;
-- +goose StatementEnd
CREATE INDEX finds_words ON finds USING gin (search_grams(words)) WITH (gin_pending_list_limit = 512);
CREATE INDEX finds_sampled ON finds USING gin (search_grams(words)) WITH (gin_pending_list_limit = 512) WHERE sampled;
DROP FUNCTION search_grams(text, timestamptz);
