-- Connect links: a platform's program makes one, and its merchant's browser does one task with it.

-- +goose Up
CREATE TABLE connect_links (
    id               uuid PRIMARY KEY,
    secret_hash      bytea NOT NULL UNIQUE,
    merchant_id      uuid NOT NULL REFERENCES merchants,
    provider         text NOT NULL DEFAULT '',                   -- '': the merchant picks one
    connection_id    uuid REFERENCES connections,                -- to reconnect; null for a new one
    inputs           jsonb NOT NULL DEFAULT '{}',                -- what the form is filled in with; no secret
    user_external_id text NOT NULL DEFAULT '',                   -- who acts, as the platform calls them
    user_name        text NOT NULL DEFAULT '',
    locale           text NOT NULL DEFAULT '',                   -- '': as the browser asks
    return_url       text NOT NULL DEFAULT '',
    redirects        boolean NOT NULL DEFAULT false,             -- to return_url at once when it ended well; else there is a button
    confirms         boolean NOT NULL DEFAULT false,             -- nothing is connected before the platform's program confirms
    created_by       uuid,                                       -- the API key
    created_at       timestamptz NOT NULL,
    expires_at       timestamptz NOT NULL,
    browser_hash     bytea,                                      -- of the browser that began; null before
    bound_at         timestamptz,
    code_hash        bytea,                                      -- of the code by which the platform confirms
    revoked_at       timestamptz,
    mac              bytea NOT NULL
);
CREATE INDEX connect_links_created ON connect_links (created_at, id);
CREATE INDEX connect_links_merchant ON connect_links (merchant_id, created_at, id);
CREATE INDEX connect_links_browser ON connect_links (browser_hash, bound_at) WHERE browser_hash IS NOT NULL;

-- A flow is a user's, or a connect link's. In the stage confirming its grant waits, sealed, for the platform's word.
ALTER TABLE flows
    ADD COLUMN link_id uuid,
    ALTER COLUMN user_id DROP NOT NULL,
    DROP CONSTRAINT flows_stage_check,
    ADD CONSTRAINT flows_stage_check
        CHECK (stage IN ('begun', 'answered', 'exchanging', 'choosing', 'confirming', 'connected', 'denied', 'expired', 'failed')) NOT VALID,
    DROP CONSTRAINT flows_check,
    ADD CONSTRAINT flows_check CHECK (sealed IS NULL OR stage IN ('begun', 'answered', 'exchanging', 'choosing', 'confirming')) NOT VALID,
    ADD CONSTRAINT flows_whose CHECK (user_id IS NOT NULL OR link_id IS NOT NULL) NOT VALID;
CREATE INDEX flows_link ON flows (link_id, created_at) WHERE link_id IS NOT NULL;
DROP INDEX flows_choosing;
CREATE INDEX flows_choosing ON flows (provider, environment, account_id) WHERE stage IN ('choosing', 'confirming');

-- +goose Down
DELETE FROM flows WHERE link_id IS NOT NULL;
DROP INDEX flows_choosing;
CREATE INDEX flows_choosing ON flows (provider, environment, account_id) WHERE stage = 'choosing';
ALTER TABLE flows
    DROP CONSTRAINT flows_whose,
    DROP CONSTRAINT flows_check,
    ADD CONSTRAINT flows_check CHECK (sealed IS NULL OR stage IN ('begun', 'answered', 'exchanging', 'choosing')),
    DROP CONSTRAINT flows_stage_check,
    ADD CONSTRAINT flows_stage_check CHECK (stage IN ('begun', 'answered', 'exchanging', 'choosing', 'connected', 'denied', 'expired', 'failed')),
    ALTER COLUMN user_id SET NOT NULL,
    DROP COLUMN link_id;
DROP TABLE connect_links;
