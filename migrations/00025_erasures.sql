-- Merchants that were erased: the receipt of each, and the access that providers are still to end.
-- +goose Up
SET LOCAL lock_timeout = '5s';
CREATE TABLE erasures (
    merchant_id   uuid PRIMARY KEY,
    external_hash bytea,                                         -- of the platform's own id, keyed by the keyset; null if there was none
    actor         text NOT NULL,                                 -- who erased, as in events
    actor_id      uuid,
    erased_at     timestamptz NOT NULL,
    counts        jsonb NOT NULL,                                -- {"connections": 2, …}: the rows that were deleted
    subjects      uuid[] NOT NULL,                               -- ids that events may name without the merchant's; emptied with finished_at
    emptied       bigint NOT NULL DEFAULT 0,                     -- events whose free text was emptied
    emptied_at    timestamptz,                                   -- when the last of them was
    finished_at   timestamptz                                    -- when they were looked through once more
);
CREATE INDEX erasures_external ON erasures (external_hash, erased_at DESC) WHERE external_hash IS NOT NULL;
CREATE INDEX erasures_unfinished ON erasures (erased_at) WHERE finished_at IS NULL;
-- What is to end one access: sealed until the provider has answered, or until it is given up.
CREATE TABLE erasure_revocations (
    id            uuid PRIMARY KEY,
    merchant_id   uuid NOT NULL REFERENCES erasures,
    connection_id uuid,                                          -- null: of an attempt to connect that was open
    provider      text NOT NULL,
    environment   text NOT NULL,
    sealed        bytea,                                         -- the account and the grant
    outcome       text NOT NULL DEFAULT '',                      -- a status.Revocation; '' before the first try
    tries         integer NOT NULL DEFAULT 0,
    due_at        timestamptz NOT NULL,
    until         timestamptz NOT NULL                           -- when it is given up
);
CREATE INDEX erasure_revocations_merchant ON erasure_revocations (merchant_id, outcome);
CREATE INDEX erasure_revocations_due ON erasure_revocations (due_at) WHERE sealed IS NOT NULL;

-- Whose mail it is: an address may change while the mail is kept.
ALTER TABLE outbox ADD COLUMN IF NOT EXISTS user_id uuid;

-- Rows that are deleted with their merchant. What refers to them is deleted first, or keeps an id that leads nowhere; to have Postgres look for it
-- would read these tables whole for every row.
ALTER TABLE flows DROP CONSTRAINT IF EXISTS flows_connection_id_fkey, DROP CONSTRAINT IF EXISTS flows_user_id_fkey;
ALTER TABLE connect_links DROP CONSTRAINT IF EXISTS connect_links_connection_id_fkey;
ALTER TABLE connections DROP CONSTRAINT IF EXISTS connections_connected_by_fkey;

-- An account whose access is being ended is compared, not read: from here on its SHA-256 is kept.
DELETE FROM revocations;

-- +goose StatementBegin
-- Events are not changed and not deleted. Of a merchant that was erased their free text is emptied, by the functions below and by none else.
CREATE OR REPLACE FUNCTION events_refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'UPDATE' THEN
        IF EXISTS (SELECT FROM public.erasures WHERE merchant_id::text = current_setting('patchbay.erasing', true))
            AND NEW.note IN ('', OLD.note) AND NEW.code IN ('', OLD.code) AND NEW.address IN ('', OLD.address)
            AND to_jsonb(NEW) - '{note,code,address}'::text[] = to_jsonb(OLD) - '{note,code,address}'::text[] THEN
            RETURN NEW;
        END IF;
    END IF;
    RAISE EXCEPTION 'events are append-only' USING ERRCODE = 'insufficient_privilege';
END $$;

-- Refuses unless a merchant is gone and an event says so, which cannot be taken back: who calls the two functions for another merchant must
-- erase it first, where all can see it.
CREATE FUNCTION events_check_erased(merchant uuid) RETURNS void LANGUAGE plpgsql STABLE AS $$
BEGIN
    IF merchant IS NULL OR EXISTS (SELECT FROM public.merchants WHERE id = merchant)
        OR NOT EXISTS (SELECT FROM public.events WHERE merchant_id = merchant AND kind = 'merchant.erased' AND kind NOT LIKE 'refresh.%') THEN
        RAISE EXCEPTION 'this merchant was not erased' USING ERRCODE = 'insufficient_privilege';
    END IF;
END $$;

-- Empties notes, codes and addresses of at most so many events of an erased merchant, and of those without a merchant that its people, keys and links have
-- caused, whose ids are subjects. The addresses of staff stay. It returns how many it emptied. It runs with the owner's rights, because
-- the serving role may not change events.
CREATE FUNCTION events_erase(merchant uuid, subjects uuid[], most integer) RETURNS integer LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE
    emptied integer;
BEGIN
    PERFORM events_check_erased(merchant);
    PERFORM set_config('patchbay.erasing', merchant::text, true);
    WITH found AS (
        (SELECT id, at FROM events e WHERE merchant_id = merchant AND kind NOT LIKE 'refresh.%'
            AND (note <> '' OR code <> '' OR address <> '' AND actor NOT IN ('support', 'admin')) LIMIT most)
        UNION
        (SELECT id, at FROM events e WHERE connection_id = ANY (subjects) AND merchant_id = merchant
            AND (note <> '' OR code <> '' OR address <> '' AND actor NOT IN ('support', 'admin')) LIMIT most)
        UNION
        (SELECT id, at FROM events e WHERE actor_id = ANY (subjects) AND merchant_id IS NULL AND actor NOT IN ('support', 'admin')
            AND (note <> '' OR code <> '' OR address <> '') LIMIT most)
        LIMIT most
    )
    UPDATE events e SET note = '', code = '', address = CASE WHEN actor IN ('support', 'admin') THEN address ELSE '' END
    FROM found WHERE e.id = found.id AND e.at = found.at;
    GET DIAGNOSTICS emptied = ROW_COUNT;
    PERFORM set_config('patchbay.erasing', '', true);
    RETURN emptied;
END $$;

-- Empties the notes in which staff looked for, or acted on, somebody of an erased merchant by name: those of the kinds that have no merchant.
CREATE FUNCTION events_erase_names(merchant uuid, names text[]) RETURNS integer LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE
    emptied integer;
BEGIN
    PERFORM events_check_erased(merchant);
    PERFORM set_config('patchbay.erasing', merchant::text, true);
    UPDATE events e SET note = ''
    WHERE kind IN ('connection.searched', 'connection.exported', 'event.exported', 'bulk.counted', 'user.sessions-ended', 'user.second-factor-on',
            'user.second-factor-off', 'user.second-factor-reset', 'user.recovery-codes-made')
        AND kind NOT LIKE 'refresh.%' AND merchant_id IS NULL AND note <> ''
        AND EXISTS (SELECT FROM unnest(names) AS name WHERE length(name) >= 3 AND strpos(lower(e.note), lower(name)) > 0);
    GET DIAGNOSTICS emptied = ROW_COUNT;
    PERFORM set_config('patchbay.erasing', '', true);
    RETURN emptied;
END $$;

-- What was under way when a merchant was erased may still say how it ended: without words.
CREATE FUNCTION events_of_erased() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF EXISTS (SELECT FROM public.erasures WHERE merchant_id = NEW.merchant_id) THEN
        NEW.note := '';
        NEW.code := '';
        IF NEW.actor NOT IN ('support', 'admin') THEN
            NEW.address := '';
        END IF;
    END IF;
    RETURN NEW;
END $$;
-- +goose StatementEnd
REVOKE ALL ON FUNCTION events_erase(uuid, uuid[], integer), events_erase_names(uuid, text[]) FROM PUBLIC;
CREATE TRIGGER events_of_erased BEFORE INSERT ON events FOR EACH ROW
    WHEN (NEW.merchant_id IS NOT NULL AND (NEW.note <> '' OR NEW.code <> '' OR NEW.address <> ''))
    EXECUTE FUNCTION events_of_erased();

-- +goose Down
DROP TRIGGER events_of_erased ON events;
DROP FUNCTION events_of_erased, events_erase_names(uuid, text[]), events_erase(uuid, uuid[], integer), events_check_erased(uuid);
-- +goose StatementBegin
CREATE OR REPLACE FUNCTION events_refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'events are append-only' USING ERRCODE = 'insufficient_privilege';
END $$;
-- +goose StatementEnd
DELETE FROM revocations;
DROP TABLE erasure_revocations, erasures;
ALTER TABLE outbox DROP COLUMN user_id;
ALTER TABLE flows ADD CONSTRAINT flows_connection_id_fkey FOREIGN KEY (connection_id) REFERENCES connections NOT VALID,
    ADD CONSTRAINT flows_user_id_fkey FOREIGN KEY (user_id) REFERENCES users NOT VALID;
ALTER TABLE connect_links ADD CONSTRAINT connect_links_connection_id_fkey FOREIGN KEY (connection_id) REFERENCES connections NOT VALID;
ALTER TABLE connections ADD CONSTRAINT connections_connected_by_fkey FOREIGN KEY (connected_by) REFERENCES users NOT VALID;
