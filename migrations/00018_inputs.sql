-- What a merchant typed that is no secret, such as a shop's name, is part of what is known of an account.

-- +goose Up
ALTER TABLE connections ADD COLUMN account_input jsonb NOT NULL DEFAULT '{}'; -- {"shop": "ch168"}

-- +goose Down
ALTER TABLE connections DROP COLUMN account_input;
