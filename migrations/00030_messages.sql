-- What people are written: merchants of a provider in an incident, many merchants who must reconnect, and admins who want no notices.

-- +goose Up
ALTER TABLE providers
    ADD COLUMN incident_message jsonb NOT NULL DEFAULT '{}',     -- to merchants, by language; '{}' for the general sentence
    ADD COLUMN incident_until   timestamptz;                     -- until when it is expected to last

-- Asks to reconnect are in states of their own, which the version before does not work on.
ALTER TABLE bulks
    ADD COLUMN kind text NOT NULL DEFAULT 'refresh' CHECK (kind IN ('refresh', 'ask')),
    DROP CONSTRAINT bulks_state_check,
    ADD CONSTRAINT bulks_state_check CHECK (state IN ('gathering', 'dry-run', 'running', 'stopping', 'stopped', 'done', 'collecting', 'asking'));

ALTER TABLE users ADD COLUMN notices boolean NOT NULL DEFAULT true; -- an admin wants the mails that go to all of them

-- +goose Down
ALTER TABLE users DROP COLUMN notices;
DELETE FROM bulks WHERE kind = 'ask';
ALTER TABLE bulks
    DROP COLUMN kind,
    DROP CONSTRAINT bulks_state_check,
    ADD CONSTRAINT bulks_state_check CHECK (state IN ('gathering', 'dry-run', 'running', 'stopping', 'stopped', 'done'));
ALTER TABLE providers DROP COLUMN incident_message, DROP COLUMN incident_until;
