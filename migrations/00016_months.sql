-- A month of events is made only when a partition of its name is attached: one that was detached, by hand or by a restore, takes no rows.

-- +goose Up
-- +goose StatementBegin
-- Makes the partition of a date's month, or attaches the detached table of its name, with what it holds.
CREATE OR REPLACE FUNCTION events_make_month(month date) RETURNS void LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE
    first  date := date_trunc('month', month)::date;
    part   text := 'events_' || to_char(first, 'YYYY_MM');
    bounds text := format('FOR VALUES FROM (%L) TO (%L)', first::text || ' 00:00:00+00', (first + interval '1 month')::date::text || ' 00:00:00+00');
BEGIN
    FOR locked IN 0..1 LOOP
        IF EXISTS (SELECT FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
            WHERE i.inhparent = 'public.events'::regclass AND NOT i.inhdetachpending AND c.relname = part) THEN
            RETURN;
        END IF;
        IF locked = 0 THEN
            LOCK TABLE events IN SHARE UPDATE EXCLUSIVE MODE;    -- another process may be making it
        END IF;
    END LOOP;
    IF to_regclass('public.' || part) IS NULL THEN
        EXECUTE format('CREATE TABLE %I PARTITION OF events ', part) || bounds;
    ELSE
        EXECUTE format('ALTER TABLE events ATTACH PARTITION %I ', part) || bounds;
    END IF;
    EXECUTE format('CREATE OR REPLACE TRIGGER events_no_truncate BEFORE TRUNCATE ON %I FOR EACH STATEMENT EXECUTE FUNCTION events_refuse_change()', part);
END $$;
-- +goose StatementEnd

-- +goose Down
-- Nothing: an earlier program works with it as it is.
SELECT;
