-- Requests that may be repeated: what was answered to one with an Idempotency-Key, for 24 hours. In the transaction of the change: both are there or neither.
-- The answer may hold a secret that is told once; it is sealed under the key itself, of which there is only a hash here.
CREATE TABLE repeatable (
	credential bytea NOT NULL,		-- what was shown, as api_token has it
	key bytea NOT NULL,			-- its SHA-256
	tenant_id int NOT NULL,
	request bytea NOT NULL,			-- the SHA-256 of all that was asked
	answer bytea NOT NULL,			-- sealed
	made_at timestamptz NOT NULL DEFAULT now(),
	PRIMARY KEY (credential, key)
);
CREATE INDEX repeatable_age ON repeatable (made_at);
ALTER TABLE repeatable ENABLE ROW LEVEL SECURITY;
ALTER TABLE repeatable FORCE ROW LEVEL SECURITY;
CREATE POLICY owner ON repeatable TO fleetstate_owner USING (true);

-- Whether a request may be done. `new`: yes, and nobody else does it meanwhile. `busy`: the first one is under way. `done`: it was, with this answer.
-- `other`: something else was, with the same key.
CREATE FUNCTION repeat_claim(credential bytea, key bytea, request bytea, OUT state text, OUT answer bytea) LANGUAGE plpgsql SECURITY DEFINER
	SET search_path = fleetstate, pg_catalog, pg_temp AS $$
#variable_conflict use_variable
DECLARE
	k repeatable;
BEGIN
	IF NOT pg_try_advisory_xact_lock(8264, hashtext(encode(credential || key, 'hex'))) THEN
		state := 'busy';
		RETURN;
	END IF;
	SELECT * INTO k FROM repeatable r WHERE r.credential = credential AND r.key = key AND r.made_at >= now() - interval '24 hours';
	IF NOT FOUND THEN
		state := 'new';
	ELSIF k.request = request THEN
		state := 'done';
		answer := k.answer;
	ELSE
		state := 'other';
	END IF;
END $$;

CREATE FUNCTION repeat_keep(credential bytea, key bytea, request bytea, answer bytea) RETURNS void LANGUAGE sql SECURITY DEFINER
	SET search_path = fleetstate, pg_catalog, pg_temp AS $$
	INSERT INTO repeatable AS r (credential, key, tenant_id, request, answer) VALUES ($1, $2, (SELECT tenant_context()), $3, $4)
	ON CONFLICT ON CONSTRAINT repeatable_pkey DO UPDATE SET tenant_id = EXCLUDED.tenant_id, request = EXCLUDED.request, answer = EXCLUDED.answer, made_at = now()
$$;
-- What is too old, some at a time. How many.
CREATE FUNCTION expire_repeats() RETURNS bigint LANGUAGE plpgsql SECURITY DEFINER SET search_path = fleetstate, pg_catalog, pg_temp AS $$
DECLARE
	n bigint;
BEGIN
	DELETE FROM repeatable r USING (SELECT o.credential, o.key FROM repeatable o WHERE o.made_at < now() - interval '24 hours' ORDER BY o.made_at LIMIT 10000
		FOR UPDATE SKIP LOCKED) o WHERE r.credential = o.credential AND r.key = o.key;
	GET DIAGNOSTICS n = ROW_COUNT;
	RETURN n;
END $$;
REVOKE ALL ON FUNCTION repeat_claim, repeat_keep, expire_repeats FROM PUBLIC;
GRANT EXECUTE ON FUNCTION expire_repeats TO fleetstate_ingest;
GRANT EXECUTE ON FUNCTION repeat_claim, repeat_keep TO fleetstate_api;
