-- A policy that is made again after it was deleted is a new one, which only goes on with the name and the slot.
CREATE FUNCTION policy_begins() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	NEW.created_at := now();
	RETURN NEW;
END $$;
CREATE TRIGGER policy_begins BEFORE UPDATE ON policy FOR EACH ROW WHEN (OLD.deleted_at IS NOT NULL AND NEW.deleted_at IS NULL)
	EXECUTE FUNCTION policy_begins();
REVOKE ALL ON FUNCTION policy_begins FROM PUBLIC;
