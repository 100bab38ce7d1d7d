-- What providers say when an account is connected, and when they are asked by staff.

-- +goose Up
ALTER TABLE connections
    ADD COLUMN account_values jsonb NOT NULL DEFAULT '{}',       -- {"realmId": …}: what the provider said beside the token
    ADD COLUMN scopes_granted text[] NOT NULL DEFAULT '{}',      -- as the provider named them when the account was connected
    ADD COLUMN scopes_missing text[] NOT NULL DEFAULT '{}';      -- asked for and not granted then

ALTER TABLE providers
    ADD COLUMN check_reason        text NOT NULL DEFAULT '',     -- why the last live check found no answer, or what it warns of
    ADD COLUMN request_failed      text NOT NULL DEFAULT '',     -- what staff asked for last, if the provider did not do it
    ADD COLUMN request_reason      text NOT NULL DEFAULT '',     -- why it did not
    ADD COLUMN request_failed_at   timestamptz,
    ADD COLUMN callback_refused_at timestamptz;                  -- since when the provider says that our callback address is not registered

-- +goose Down
ALTER TABLE providers DROP COLUMN check_reason, DROP COLUMN request_failed, DROP COLUMN request_reason, DROP COLUMN request_failed_at,
    DROP COLUMN callback_refused_at;
ALTER TABLE connections DROP COLUMN account_values, DROP COLUMN scopes_granted, DROP COLUMN scopes_missing;
