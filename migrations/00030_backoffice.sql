-- What the back office finds, sorts and counts connections by, at a million of them; bulk work; settings.

-- +goose Up

-- One spelling for what is searched and what is typed: lower case, no accents, Khmer digits as Latin ones, without
-- joiners and those Khmer signs that are no letters to Postgres (they would cut words into pieces too short to index,
-- and are the ones most often left out).
-- +goose StatementBegin
CREATE FUNCTION search_fold(words text) RETURNS text LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE AS $$
    SELECT translate(lower(regexp_replace(normalize(words, NFKD), U&'[\0300-\036F\17B4\17B5\17C9-\17D3\17DD\200B-\200F\2060\FEFF]', '', 'g')),
        '០១២៣៤៥៦៧៨៩', '0123456789')
$$;
-- +goose StatementEnd

ALTER TABLE connections
    ADD COLUMN merchant_key text NOT NULL DEFAULT '',            -- what it is sorted by; kept by trigger
    ADD COLUMN account_key text NOT NULL GENERATED ALWAYS AS (left(lower(coalesce(nullif(account_name, ''), account_id)), 200)) STORED,
    ADD COLUMN used_on date NOT NULL DEFAULT '1970-01-01',       -- the day of its last use, so that hours of use do not rewrite indexes; kept by trigger
    -- health and problem in one word: 'fine', 'retrying', 'disconnected' or the problem
    ADD COLUMN state text NOT NULL GENERATED ALWAYS AS (
        CASE WHEN disconnected_at IS NOT NULL THEN 'disconnected' WHEN problem <> '' THEN problem
             WHEN failing_since IS NOT NULL THEN 'retrying' ELSE 'fine' END) STORED,
    -- worst health first, the latest change first within it: rank * 10^12 + 10^11 - seconds
    ADD COLUMN health_order bigint NOT NULL GENERATED ALWAYS AS (
        CASE WHEN disconnected_at IS NOT NULL THEN 4100000000000 - extract(epoch FROM disconnected_at AT TIME ZONE 'UTC')::bigint
             WHEN problem <> '' THEN 1100000000000 - extract(epoch FROM coalesce(problem_since, connected_at) AT TIME ZONE 'UTC')::bigint
             WHEN failing_since IS NOT NULL THEN 2100000000000 - extract(epoch FROM failing_since AT TIME ZONE 'UTC')::bigint
             ELSE 3100000000000 - extract(epoch FROM connected_at AT TIME ZONE 'UTC')::bigint END) STORED;

-- Lists walk one of these in its order and look at nothing else. The facets stand in each, so that a filter is judged
-- in the index.
DROP INDEX connections_search, connections_connected, connections_provider, connections_problem, connections_failing, connections_merchant;
CREATE INDEX connections_merchant ON connections (merchant_id, connected_at, id) INCLUDE (provider, environment, state, used_on);
CREATE INDEX connections_connected ON connections (connected_at, id) INCLUDE (provider, environment, state, used_on);
CREATE INDEX connections_used ON connections (used_on, id) INCLUDE (provider, environment, state, connected_at);
CREATE INDEX connections_account_key ON connections (account_key, id) INCLUDE (provider, environment, state, connected_at, used_on);
CREATE INDEX connections_merchant_key ON connections (merchant_key, id) INCLUDE (provider, environment, state, connected_at, used_on);
CREATE INDEX connections_health ON connections (health_order, id) INCLUDE (provider, environment, state, connected_at, used_on);
CREATE INDEX connections_facet_connected ON connections (provider, environment, state, connected_at, id) INCLUDE (used_on);
CREATE INDEX connections_facet_account ON connections (provider, environment, state, account_key, id) INCLUDE (connected_at, used_on);
CREATE INDEX connections_facet_used ON connections (provider, environment, state, used_on, id) INCLUDE (connected_at);

-- What a connection is found by: its account, its merchant and that merchant's people. Apart and narrow, because many
-- rows are looked at for each search, and because changes of health must not touch this index.
CREATE TABLE finds (
    id           uuid PRIMARY KEY REFERENCES connections ON DELETE CASCADE,
    provider     text NOT NULL,
    environment  text NOT NULL,
    connected_at timestamptz NOT NULL,
    words        text NOT NULL,
    sampled      boolean NOT NULL                                -- one in 64: how common words are is told from these
);
CREATE INDEX finds_connected ON finds (connected_at, id);
CREATE INDEX finds_words ON finds USING gin (words gin_trgm_ops) WITH (gin_pending_list_limit = 512);
CREATE INDEX finds_sampled ON finds USING gin (words gin_trgm_ops) WITH (gin_pending_list_limit = 512) WHERE sampled;

-- The dictionary that mistyped words are looked up in. Words are added, never taken away: one too many does no harm.
CREATE TABLE words (
    word text PRIMARY KEY
);
CREATE INDEX words_similar ON words USING gin (word gin_trgm_ops);

-- +goose StatementBegin
-- Ids and numbers are too many and nobody mistypes them in a way that similarity would mend.
CREATE FUNCTION words_of(text) RETURNS SETOF text LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE AS $$
    SELECT DISTINCT word FROM regexp_split_to_table($1, '[^[:alnum:]]+') AS word
    WHERE length(word) BETWEEN 3 AND 60 AND word ~ '[[:alpha:]]' AND (length(word) <= 8 OR word !~ '[0-9]' OR word ~ '[ក-៓]')
    ORDER BY word
$$;

CREATE FUNCTION finds_write(connection uuid) RETURNS void LANGUAGE plpgsql AS $$
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

CREATE FUNCTION connections_before() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.merchant_key := (SELECT left(lower(name), 200) FROM merchants WHERE id = NEW.merchant_id);
    RETURN NEW;
END $$;

CREATE FUNCTION connections_after() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM finds_write(NEW.id);
    RETURN NULL;
END $$;

CREATE FUNCTION merchants_after() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    UPDATE connections SET merchant_key = left(lower(NEW.name), 200) WHERE merchant_id = NEW.id;
    PERFORM finds_write(id) FROM connections WHERE merchant_id = NEW.id;
    RETURN NULL;
END $$;

CREATE FUNCTION users_after() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM finds_write(id) FROM connections
    WHERE merchant_id IN (CASE WHEN TG_OP <> 'DELETE' THEN NEW.merchant_id END, CASE WHEN TG_OP <> 'INSERT' THEN OLD.merchant_id END);
    RETURN NULL;
END $$;

-- Whoever has the connection locked may wait for this grant: then the day is written at the next use on another day.
CREATE FUNCTION grants_used() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM FROM connections WHERE id = NEW.connection_id FOR NO KEY UPDATE SKIP LOCKED;
    IF FOUND THEN
        UPDATE connections SET used_on = (NEW.used_at AT TIME ZONE 'UTC')::date WHERE id = NEW.connection_id;
    END IF;
    RETURN NULL;
END $$;
-- +goose StatementEnd

CREATE TRIGGER connections_before BEFORE INSERT OR UPDATE OF merchant_id ON connections
    FOR EACH ROW EXECUTE FUNCTION connections_before();
CREATE TRIGGER connections_after_insert AFTER INSERT ON connections
    FOR EACH ROW EXECUTE FUNCTION connections_after();
CREATE TRIGGER connections_after_update AFTER UPDATE OF search, merchant_id, provider, environment, connected_at ON connections
    FOR EACH ROW WHEN ((OLD.search, OLD.merchant_id, OLD.provider, OLD.environment, OLD.connected_at) <> (NEW.search, NEW.merchant_id, NEW.provider, NEW.environment, NEW.connected_at))
    EXECUTE FUNCTION connections_after();
CREATE TRIGGER merchants_after AFTER UPDATE OF name, external_id ON merchants
    FOR EACH ROW WHEN (OLD.name <> NEW.name OR OLD.external_id IS DISTINCT FROM NEW.external_id) EXECUTE FUNCTION merchants_after();
CREATE TRIGGER users_after AFTER INSERT OR DELETE OR UPDATE OF email, name, merchant_id ON users
    FOR EACH ROW EXECUTE FUNCTION users_after();
CREATE TRIGGER grants_used AFTER UPDATE OF used_at ON grants
    FOR EACH ROW WHEN (NEW.used_at IS NOT NULL AND (OLD.used_at IS NULL OR (OLD.used_at AT TIME ZONE 'UTC')::date <> (NEW.used_at AT TIME ZONE 'UTC')::date))
    EXECUTE FUNCTION grants_used();

UPDATE connections c SET merchant_key = left(lower(m.name), 200) FROM merchants m WHERE m.id = c.merchant_id;
SELECT count(finds_write(id)) FROM connections;

-- Calls that did not go well, by how: few among many, and what one looks for.
CREATE INDEX events_trouble ON events (class, at DESC, id DESC) WHERE class NOT IN ('', 'ok');
-- What people and programs did, without the renewals between.
CREATE INDEX events_people ON events (at DESC, id DESC) WHERE kind NOT LIKE 'refresh.%';
CREATE INDEX events_flow ON events (flow_id, at DESC, id DESC) WHERE flow_id IS NOT NULL;

-- Many refreshes at once: first a dry run, then at a pace that spares the provider, until it is done or stopped.
CREATE TABLE bulks (
    id         uuid PRIMARY KEY,
    filter     text NOT NULL,                                    -- as it stands in the list's address
    state      text NOT NULL CHECK (state IN ('gathering', 'dry-run', 'running', 'stopping', 'stopped', 'done')),
    created_by uuid NOT NULL REFERENCES users,
    created_at timestamptz NOT NULL,
    started_at timestamptz,
    ended_at   timestamptz,
    cursor     text NOT NULL DEFAULT '',                         -- how far the filter has been gathered
    carrier       uuid,                                          -- the job that carries it on
    carried_until timestamptz                                    -- another may take it up afterwards
);
CREATE INDEX bulks_created ON bulks (created_at DESC);
CREATE TABLE bulk_items (
    bulk_id       uuid NOT NULL REFERENCES bulks ON DELETE CASCADE,
    connection_id uuid NOT NULL REFERENCES connections ON DELETE CASCADE,
    provider      text NOT NULL,
    class         text NOT NULL DEFAULT '',                      -- '' while it waits; else how it ended
    ended_at      timestamptz,
    PRIMARY KEY (bulk_id, connection_id)
);
CREATE INDEX bulk_items_waiting ON bulk_items (bulk_id, provider, connection_id) WHERE class = '';

-- What admins may set while the program runs.
CREATE TABLE settings (
    name  text PRIMARY KEY,
    value text NOT NULL
);

-- +goose Down
DROP TABLE settings, bulk_items, bulks, words, finds;
DROP INDEX events_trouble, events_people, events_flow;
DROP TRIGGER grants_used ON grants;
DROP TRIGGER users_after ON users;
DROP TRIGGER merchants_after ON merchants;
DROP TRIGGER connections_after_update ON connections;
DROP TRIGGER connections_after_insert ON connections;
DROP TRIGGER connections_before ON connections;
DROP FUNCTION grants_used, users_after, merchants_after, connections_after, connections_before, finds_write(uuid), words_of(text);
DROP INDEX connections_merchant, connections_connected, connections_used, connections_account_key, connections_merchant_key, connections_health,
    connections_facet_connected, connections_facet_account, connections_facet_used;
ALTER TABLE connections DROP COLUMN health_order, DROP COLUMN state, DROP COLUMN used_on, DROP COLUMN account_key, DROP COLUMN merchant_key;
DROP FUNCTION search_fold(text);
CREATE INDEX connections_merchant ON connections (merchant_id, connected_at DESC, id DESC);
CREATE INDEX connections_connected ON connections (connected_at DESC, id DESC);
CREATE INDEX connections_provider ON connections (provider, connected_at DESC, id DESC);
CREATE INDEX connections_problem ON connections (problem, connected_at DESC, id DESC) WHERE problem <> '' AND disconnected_at IS NULL;
CREATE INDEX connections_failing ON connections (connected_at DESC, id DESC) WHERE failing_since IS NOT NULL AND disconnected_at IS NULL;
CREATE INDEX connections_search ON connections USING gin (search gin_trgm_ops);
