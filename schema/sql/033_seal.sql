-- The seal of who is signed in, which each statement looks at for each of its tables, at half the price.

-- The secret never changes, so a session reads it once: a plan takes what an immutable function says for a constant, and plpgsql keeps its plans. Whoever
-- changes the secret all the same ends the sessions that have it.
CREATE FUNCTION kept_context_secret() RETURNS bytea LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE AS $$
BEGIN
	RETURN (SELECT c.secret FROM context_secret c);
END $$;
REVOKE ALL ON FUNCTION kept_context_secret FROM PUBLIC;
CREATE OR REPLACE FUNCTION context_seal(tenant text, role text, who text) RETURNS text LANGUAGE plpgsql STABLE PARALLEL SAFE AS $$
BEGIN
	RETURN encode(sha256(kept_context_secret() || sha256(kept_context_secret() || timestamptz_send(now()) || convert_to(concat_ws(E'\n', tenant, role, who), 'UTF8'))),
		'hex');
END $$;
-- The seal first: the owner's own sessions are the fewer.
CREATE OR REPLACE FUNCTION context_is_sealed() RETURNS boolean LANGUAGE plpgsql STABLE PARALLEL SAFE AS $$
BEGIN
	RETURN coalesce(current_setting('fleetstate.seal', true) = context_seal(current_setting('fleetstate.tenant', true), current_setting('fleetstate.role', true),
		current_setting('fleetstate.who', true)), false) OR pg_has_role(session_user, 'fleetstate_owner', 'MEMBER');
END $$;
