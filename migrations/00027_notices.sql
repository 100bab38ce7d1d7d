-- What admins were mailed about: an incident, what the platform must put right, an endpoint of webhooks that was switched off. Each is
-- mailed once, and not again within a day.

-- +goose Up
CREATE TABLE notices (
    kind      text NOT NULL CHECK (kind IN ('incident', 'platform-action-needed', 'webhook-off')),
    about     text NOT NULL,                                     -- provider and environment, then the problem; or the endpoint's id
    since     timestamptz NOT NULL,                              -- when it began
    mailed_at timestamptz NOT NULL,
    open      boolean NOT NULL,                                  -- it lasts: of an incident, its end is to be mailed
    PRIMARY KEY (kind, about)
);

-- +goose Down
DROP TABLE notices;
