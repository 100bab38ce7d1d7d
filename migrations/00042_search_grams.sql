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
CREATE INDEX finds_words ON finds USING gin (search_grams(words)) WITH (gin_pending_list_limit = 512);
CREATE INDEX finds_sampled ON finds USING gin (search_grams(words)) WITH (gin_pending_list_limit = 512) WHERE sampled;

-- +goose Down
DROP INDEX finds_words, finds_sampled;
CREATE INDEX finds_words ON finds USING gin (words gin_trgm_ops) WITH (gin_pending_list_limit = 512);
CREATE INDEX finds_sampled ON finds USING gin (words gin_trgm_ops) WITH (gin_pending_list_limit = 512) WHERE sampled;
DROP FUNCTION search_grams(text);
