-- People who sign in through the platform's OpenID Connect provider: a user is found by issuer and subject. The password_hash of such a
-- user is 'sso', which no password matches, and the user's MAC covers it. Their e-mail address is what the provider says: it identifies
-- nobody, so it may also be that of a user with a password.

-- +goose Up
CREATE TABLE identities (
    id         uuid PRIMARY KEY,
    user_id    uuid NOT NULL UNIQUE REFERENCES users ON DELETE CASCADE,
    issuer     text NOT NULL,
    subject    text NOT NULL,
    created_at timestamptz NOT NULL,
    mac        bytea,
    UNIQUE (issuer, subject)
);

CREATE INDEX users_order ON users (lower(email), id);
DROP INDEX users_email;
CREATE UNIQUE INDEX users_email ON users (lower(email)) WHERE password_hash <> 'sso';

-- +goose Down
-- Who has no password cannot sign in any more. Their addresses make room for the index, and so their MACs hold no longer.
DELETE FROM sessions USING users u WHERE u.id = user_id AND u.password_hash = 'sso';
UPDATE users SET email = id || '@sso.invalid' WHERE password_hash = 'sso';
DROP INDEX users_email;
CREATE UNIQUE INDEX users_email ON users (lower(email));
DROP INDEX users_order;
DROP TABLE identities;
