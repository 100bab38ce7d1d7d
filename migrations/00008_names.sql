-- Names are the same when people would call them the same, and letters that nobody sees do not keep a search from finding them.

-- +goose Up
-- +goose StatementBegin
-- One spelling for what is searched and for what is typed: lower case, no accents, Khmer digits as Latin ones, without
-- invisible characters and without the Khmer signs that Postgres does not take for letters (they would cut words into pieces
-- too short to index, and people often leave them out).
CREATE OR REPLACE FUNCTION search_fold(words text) RETURNS text LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE AS $$
    SELECT translate(lower(regexp_replace(normalize(words, NFKD),
            U&'[\00AD\0300-\036F\061C\115F\1160\17B4\17B5\17C9-\17D3\17DD\180B-\180F\200B-\200F\202A-\202E\2060-\206F\3164\FE00-\FE0F\FEFF\FFA0\FFF0-\FFFC\+0E0000-\+0E0FFF]', '', 'g')),
        '០១២៣៤៥៦៧៨៩', '0123456789')
$$;

-- One spelling for names that people would call the same: in whatever case, width and composition, and with whatever space and
-- invisible characters they are written. Accents count.
CREATE FUNCTION name_fold(name text) RETURNS text LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE AS $$
    SELECT btrim(regexp_replace(normalize(replace(replace(lower(normalize(regexp_replace(name,
            U&'[\00AD\034F\061C\115F\1160\17B4\17B5\180B-\180F\200B-\200F\202A-\202E\2060-\206F\3164\FE00-\FE0F\FEFF\FFA0\FFF0-\FFFC\+0E0000-\+0E0FFF]', '', 'g'),
        NFKC)), 'ß', 'ss'), 'ς', 'σ'), NFKC), U&'[\0009-\000D\0020\0085\00A0\1680\2000-\200A\2028\2029\202F\205F\2800\3000]+', ' ', 'g'))
$$;
-- +goose StatementEnd

CREATE INDEX merchants_name_fold ON merchants (name_fold(name));

-- What was written before: computed again where it differs.
UPDATE merchants SET name = name WHERE words <> search_fold(words);
UPDATE users SET name = name WHERE words <> search_fold(words);
WITH changed AS (UPDATE search_documents SET words = search_fold(words) WHERE words <> search_fold(words) RETURNING words)
INSERT INTO search_words (word) SELECT DISTINCT word FROM changed, search_words_of(words) AS word ON CONFLICT DO NOTHING;

-- An address is looked up as it is kept since: composed, and without what nobody sees.
UPDATE users u SET email = kept.email
FROM (SELECT id, normalize(regexp_replace(email, U&'[\00AD\061C\200B-\200F\202A-\202E\2060-\206F\FEFF]', '', 'g'), NFC) AS email FROM users) kept
WHERE kept.id = u.id AND kept.email <> u.email AND NOT EXISTS (SELECT FROM users o WHERE lower(o.email) = lower(kept.email) AND o.id <> u.id);

-- +goose Down
DROP INDEX merchants_name_fold;
DROP FUNCTION name_fold(text);
-- +goose StatementBegin
CREATE OR REPLACE FUNCTION search_fold(words text) RETURNS text LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE AS $$
    SELECT translate(lower(regexp_replace(normalize(words, NFKD), U&'[\0300-\036F\17B4\17B5\17C9-\17D3\17DD\200B-\200F\2060\FEFF]', '', 'g')),
        '០១២៣៤៥៦៧៨៩', '0123456789')
$$;
-- +goose StatementEnd
