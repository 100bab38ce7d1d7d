-- Second factors, sessions that still lack one, and when the person of a session last proved who they are.

-- +goose Up
ALTER TABLE users ADD COLUMN IF NOT EXISTS second_factor_at timestamptz;                 -- since when; null: none. The mac covers it
ALTER TABLE sessions ADD COLUMN IF NOT EXISTS half boolean NOT NULL DEFAULT false;       -- the password was right, the second factor is missing
ALTER TABLE sessions ADD COLUMN IF NOT EXISTS proved_at timestamptz;                     -- the last proof; null: of before this column

CREATE TABLE IF NOT EXISTS second_factors (
    user_id uuid PRIMARY KEY REFERENCES users,
    sealed  bytea NOT NULL,                                      -- the codes' secret, hashes of recovery codes, passkeys
    step    bigint NOT NULL DEFAULT 0                            -- the last time step of which a code was used (RFC 6238 section 5.2)
);

-- A row is a challenge that was given to a browser (WebAuthn), until it is answered.
CREATE TABLE IF NOT EXISTS passkey_challenges (
    hash         bytea PRIMARY KEY,                              -- SHA-256 of the challenge
    browser_hash bytea NOT NULL,
    user_id      uuid REFERENCES users,                          -- null: at the sign-in page
    purpose      text NOT NULL,
    expires_at   timestamptz NOT NULL
);
CREATE INDEX IF NOT EXISTS passkey_challenges_expires ON passkey_challenges (expires_at);

-- +goose Down
-- What users have stays: the mac of those with a second factor covers it.
DELETE FROM sessions WHERE half;
