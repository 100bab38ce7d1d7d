-- Words of the dictionary that a text has lost, until it is known whether another has them.
-- +goose Up
SET LOCAL lock_timeout = '5s';
CREATE TABLE search_words_left (
    word text NOT NULL                                           -- any number of times: nobody waits for another's transaction
);
-- Those of texts that were changed or deleted before.
INSERT INTO search_words_left SELECT word FROM search_words;

-- +goose StatementBegin
CREATE FUNCTION search_leave_words() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'DELETE' THEN
        INSERT INTO public.search_words_left SELECT public.search_words_of(OLD.words);
    ELSE
        INSERT INTO public.search_words_left SELECT public.search_words_of(OLD.words) EXCEPT SELECT public.search_words_of(NEW.words);
    END IF;
    RETURN NULL;
END $$;
-- +goose StatementEnd
CREATE TRIGGER search_documents_change_words AFTER UPDATE OF words ON search_documents FOR EACH ROW WHEN (OLD.words <> NEW.words) EXECUTE FUNCTION search_leave_words();
CREATE TRIGGER search_documents_lose_words AFTER DELETE ON search_documents FOR EACH ROW EXECUTE FUNCTION search_leave_words();
CREATE TRIGGER users_change_words AFTER UPDATE ON users FOR EACH ROW WHEN (OLD.words IS DISTINCT FROM NEW.words) EXECUTE FUNCTION search_leave_words();
CREATE TRIGGER users_lose_words AFTER DELETE ON users FOR EACH ROW EXECUTE FUNCTION search_leave_words();

-- +goose Down
DROP TRIGGER users_lose_words ON users;
DROP TRIGGER users_change_words ON users;
DROP TRIGGER search_documents_lose_words ON search_documents;
DROP TRIGGER search_documents_change_words ON search_documents;
DROP FUNCTION search_leave_words;
DROP TABLE search_words_left;
