-- connection.recovered is sent once a connection is fine again, and not when an incident of its provider takes its problem back while
-- refreshes still fail. An incident in which our own client is suspected has the reason that a connection then has as its problem.

-- +goose Up
SET LOCAL lock_timeout = '5s';

-- +goose StatementBegin
CREATE OR REPLACE FUNCTION webhook_on_problem() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.problem = '' AND OLD.problem = '' AND (
        SELECT type FROM webhook_events WHERE connection_id = NEW.id AND type <> 'connection.expiring' ORDER BY sequence DESC LIMIT 1) IS DISTINCT FROM 'connection.action_needed' THEN
        RETURN NULL; -- no problem was announced since it was fine
    END IF;
    PERFORM webhook_add(CASE WHEN NEW.problem = '' THEN 'connection.recovered' ELSE 'connection.action_needed' END,
        coalesce(NEW.problem_since, now()), NEW.merchant_id, NEW.id, webhook_state(NEW));
    RETURN NULL;
END $$;
-- +goose StatementEnd
DROP TRIGGER connections_webhook ON connections;
CREATE TRIGGER connections_webhook AFTER UPDATE ON connections FOR EACH ROW
    WHEN (OLD.state <> NEW.state AND NEW.state <> 'retrying' AND NEW.disconnected_at IS NULL)
    EXECUTE FUNCTION webhook_on_problem();
UPDATE providers SET incident_reason = 'client-rejected' WHERE incident_reason = 'ours';

-- +goose Down
SET LOCAL lock_timeout = '5s';

DROP TRIGGER connections_webhook ON connections;
-- +goose StatementBegin
CREATE OR REPLACE FUNCTION webhook_on_problem() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM webhook_add(CASE WHEN NEW.problem = '' THEN 'connection.recovered' ELSE 'connection.action_needed' END,
        coalesce(NEW.problem_since, now()), NEW.merchant_id, NEW.id, webhook_state(NEW));
    RETURN NULL;
END $$;
-- +goose StatementEnd
CREATE TRIGGER connections_webhook AFTER UPDATE ON connections FOR EACH ROW
    WHEN (OLD.problem <> NEW.problem AND NEW.disconnected_at IS NULL)
    EXECUTE FUNCTION webhook_on_problem();
UPDATE providers SET incident_reason = 'ours' WHERE incident_reason = 'client-rejected';
