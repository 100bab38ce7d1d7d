-- The audit trail is shortened only as the setting says, and only by the roles that are named: see migrations.Allow.

-- +goose Up
REVOKE ALL ON FUNCTION events_make_month(date), events_drop_before(date) FROM PUBLIC;

-- +goose StatementBegin
-- Drops the months before a date, and returns how many. The serving role may call it and may write the setting, so it reads the
-- setting itself, and keeps the present month, the three whole ones before it and what is later, whatever either of them says.
CREATE OR REPLACE FUNCTION events_drop_before(month date) RETURNS integer LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE
    keep    integer := (SELECT value::integer FROM settings WHERE name = 'events.months');
    until   date;
    part    text;
    dropped integer := 0;
BEGIN
    IF coalesce(keep, 0) <= 0 THEN
        RAISE EXCEPTION 'all events are kept' USING ERRCODE = 'insufficient_privilege';
    END IF;
    until := least(month, (now() AT TIME ZONE 'UTC' - make_interval(months => greatest(keep, 3)))::date);
    FOR part IN
        SELECT c.relname FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
        WHERE i.inhparent = 'public.events'::regclass
          AND c.relname < 'events_' || to_char(date_trunc('month', until), 'YYYY_MM')
    LOOP
        EXECUTE format('DROP TABLE %I', part);
        dropped := dropped + 1;
    END LOOP;
    RETURN dropped;
END $$;
-- +goose StatementEnd

-- +goose Down
-- Nothing: an earlier program works with it as it is.
SELECT;
