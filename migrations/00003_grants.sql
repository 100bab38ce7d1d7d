-- What keeps access alive: sealed grants with their leases, the calls a provider may get at once, rechecks that webhooks
-- ask for, and figures.

-- +goose Up
CREATE TABLE grants (
    connection_id         uuid PRIMARY KEY REFERENCES connections ON DELETE CASCADE,
    provider              text NOT NULL,
    environment           text NOT NULL,
    sealed                bytea,                                 -- null once disconnected
    generation            bigint NOT NULL DEFAULT 1,             -- rises with each saved answer
    connection_version    bigint NOT NULL DEFAULT 1,             -- rises on reconnect, replace and disconnect
    attempts              bigint NOT NULL DEFAULT 0,             -- rises with each outcome, good or bad
    late_grant            bytea,                                 -- a good answer that came after another was saved: tried before a rejection is believed
    late_generation       bigint NOT NULL DEFAULT 0,             -- the generation that late_grant is bound to
    saved_by              uuid,                                  -- the lease that saved this generation: a repeated save recognises itself
    lease_id              uuid,
    leased_until          timestamptz,
    unanswered_generation bigint NOT NULL DEFAULT 0,             -- the generation whose refresh got no answer: a rejection that follows is explained by it
    lifetime_seconds      bigint NOT NULL DEFAULT 0,             -- 0: unknown
    expires_at            timestamptz,
    refresh_expires_at    timestamptz,
    refresh_expiry_fixed  boolean NOT NULL DEFAULT false,        -- a refresh did not move refresh_expires_at: the merchant must reconnect by then
    refresh_at            timestamptz,                           -- when it is due; null: never
    failures              integer NOT NULL DEFAULT 0,            -- in a row
    last_outcome          text NOT NULL DEFAULT '',              -- a status.Outcome
    last_code             text NOT NULL DEFAULT '',              -- the provider's error code, or ours
    refreshed_at          timestamptz,
    used_at               timestamptz,
    used_by               uuid                                   -- the API key that last asked for it
) WITH (fillfactor = 70);
CREATE INDEX grants_due ON grants (provider, environment, refresh_at) WHERE refresh_at IS NOT NULL;
-- Only where the end matters to a person: a refresh would otherwise write into one more index each time.
CREATE INDEX grants_refresh_expires ON grants (refresh_expires_at) WHERE refresh_expiry_fixed;

-- The calls that may be under way at one provider at once, all processes together: a row each. A claim takes one, and the
-- slot of a process that died is free again when its lease ends.
CREATE TABLE provider_slots (
    provider    text NOT NULL,
    environment text NOT NULL,
    slot        smallint NOT NULL,
    busy_until  timestamptz NOT NULL,
    lease_id    uuid,
    PRIMARY KEY (provider, environment, slot)
) WITH (fillfactor = 25);

-- A provider's webhook said that access has ended. It is verified by refreshing at once and after 1, 10 and 60 minutes.
CREATE TABLE rechecks (
    connection_id uuid PRIMARY KEY REFERENCES connections ON DELETE CASCADE,
    provider      text NOT NULL,
    environment   text NOT NULL,
    done          integer NOT NULL,                              -- how many refreshes it has caused
    due_at        timestamptz,                                   -- of the next; null when all are done
    checked_at    timestamptz,                                   -- of the latest: at most one a minute
    notified_at   timestamptz NOT NULL                           -- when the webhook came
);
CREATE INDEX rechecks_due ON rechecks (due_at);

-- Calls by hour: charts and percentiles never scan events. Bucket n holds the calls that took less than the n-th of
-- refresh.LatencyBounds.
CREATE TABLE hourly_stats (
    provider    text NOT NULL,
    environment text NOT NULL,
    hour        timestamptz NOT NULL,
    kind        text NOT NULL,                                   -- refresh or connect
    outcome     text NOT NULL,                                   -- a status.Outcome
    bucket      smallint NOT NULL,
    calls       bigint NOT NULL,
    PRIMARY KEY (provider, environment, hour, kind, outcome, bucket)
);
CREATE INDEX hourly_stats_hour ON hourly_stats (hour);

-- Refreshes by hour and outcome over all providers, for the overview's chart: hourly_stats has a hundred rows for the same.
CREATE TABLE hourly_refreshes (
    hour    timestamptz NOT NULL,
    outcome text NOT NULL,
    calls   bigint NOT NULL,
    PRIMARY KEY (hour, outcome)
);

-- +goose Down
DROP TABLE hourly_refreshes, hourly_stats, rechecks, provider_slots, grants;
