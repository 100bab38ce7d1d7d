-- Searching by runs of four letters instead of three. Any three figures are in every thirtieth connection, so that half a
-- TIN was the intersection of three long lists; any four are in every three hundredth.

-- +goose Up
-- +goose StatementBegin
-- Each run of four letters within a word, and the last three, by which three letters are found as the beginning of a run.
-- Of words longer than anybody types, the beginning: the time grows with the square of a word's length.
CREATE FUNCTION search_grams(words text) RETURNS tsvector LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE COST 10000 AS $$
    SELECT array_to_tsvector(ARRAY(
        SELECT substr(word, at, 4) FROM unnest(string_to_array(words, ' ')) AS whole, left(whole, 255) AS word, generate_series(1, greatest(length(word) - 2, 1)) AS at WHERE word <> ''))
$$;
-- +goose StatementEnd
DROP INDEX finds_words, finds_sampled;

-- What a search found can be put in the order of merchants without looking each connection up.
ALTER TABLE finds ADD COLUMN merchant_key text NOT NULL DEFAULT '';
UPDATE finds f SET merchant_key = c.merchant_key FROM connections c WHERE c.id = f.id;
-- +goose StatementBegin
CREATE OR REPLACE FUNCTION finds_write(connection uuid) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    found finds;
BEGIN
    SELECT c.id, c.provider, c.environment, c.connected_at, search_fold(c.search || ' ' || m.name || ' ' || coalesce(m.external_id, '') || ' ' ||
            coalesce((SELECT string_agg(u.email || ' ' || u.name, ' ' ORDER BY u.id) FROM users u WHERE u.merchant_id = m.id), '')),
        get_byte(uuid_send(c.id), 15) % 64 = 0, c.merchant_key
    INTO found FROM connections c JOIN merchants m ON m.id = c.merchant_id WHERE c.id = connection;
    INSERT INTO finds (id, provider, environment, connected_at, words, sampled, merchant_key)
    VALUES (found.id, found.provider, found.environment, found.connected_at, found.words, found.sampled, found.merchant_key)
    ON CONFLICT (id) DO UPDATE SET provider = excluded.provider, environment = excluded.environment, connected_at = excluded.connected_at, words = excluded.words,
        merchant_key = excluded.merchant_key
    WHERE (finds.provider, finds.environment, finds.connected_at, finds.words, finds.merchant_key) <>
        (excluded.provider, excluded.environment, excluded.connected_at, excluded.words, excluded.merchant_key);
    INSERT INTO words (word) SELECT words_of(found.words) ON CONFLICT DO NOTHING;
END $$;
-- +goose StatementEnd

CREATE INDEX finds_words ON finds USING gin (search_grams(words)) WITH (gin_pending_list_limit = 512);
CREATE INDEX finds_sampled ON finds USING gin (search_grams(words)) WITH (gin_pending_list_limit = 512) WHERE sampled;

-- +goose Down
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
-- +goose StatementEnd
ALTER TABLE finds DROP COLUMN merchant_key;
CREATE INDEX finds_words ON finds USING gin (words gin_trgm_ops) WITH (gin_pending_list_limit = 512);
CREATE INDEX finds_sampled ON finds USING gin (words gin_trgm_ops) WITH (gin_pending_list_limit = 512) WHERE sampled;
DROP FUNCTION search_grams(text);
