-- Who did or read what: a log in which each entry's hash covers the one before it, and whose end the signed checkpoints name.

CREATE TABLE audit (
	number bigint PRIMARY KEY,		-- without gaps
	tenant_id int,				-- whose it is; NULL: the operator's own
	time timestamptz NOT NULL,
	line text NOT NULL,			-- the entry, as JSON; says number, tenant and time too
	hash bytea NOT NULL			-- SHA-256 of the one before (32 zero bytes before the first) and the line
);
CREATE INDEX audit_tenant ON audit (tenant_id, number);
CREATE TABLE audit_head (
	one boolean PRIMARY KEY DEFAULT true CHECK (one),
	number bigint NOT NULL,
	hash bytea NOT NULL CHECK (length(hash) = 32)
) WITH (fillfactor = 10);
INSERT INTO audit_head (number, hash) VALUES (0, decode(repeat('00', 32), 'hex'));

DO $$
DECLARE t text;
BEGIN
	FOREACH t IN ARRAY ARRAY['audit', 'audit_head'] LOOP
		EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY', t);
		EXECUTE format('ALTER TABLE %I FORCE ROW LEVEL SECURITY', t);
		EXECUTE format('CREATE POLICY owner ON %I TO fleetstate_owner USING (true)', t);
	END LOOP;
END $$;
CREATE POLICY ingest ON audit_head FOR SELECT TO fleetstate_ingest USING (true);
GRANT SELECT ON audit_head TO fleetstate_ingest;
CREATE POLICY tenant ON audit FOR SELECT TO fleetstate_api
	USING (tenant_id = (SELECT tenant_context()) OR (tenant_id IS NULL AND (SELECT role_context()) = 'operator' AND (SELECT tenant_context()) IS NOT NULL));
GRANT SELECT ON audit TO fleetstate_api;

-- Whoever holds the head's row is the one that appends, until its transaction ends.
CREATE FUNCTION audit_append(mine int, at timestamptz, entry jsonb) RETURNS bigint LANGUAGE plpgsql
	SET search_path = fleetstate, pg_catalog, pg_temp AS $$
DECLARE
	h audit_head; said text; digest bytea;
BEGIN
	SELECT * INTO h FROM audit_head FOR UPDATE;
	said := (jsonb_build_object('number', h.number + 1, 'time', rfc3339(at), 'tenant', (SELECT t.id FROM tenant t WHERE t.tenant_id = mine)) || entry)::text;
	digest := sha256(h.hash || convert_to(said, 'UTF8'));
	INSERT INTO audit VALUES (h.number + 1, mine, at, said, digest);
	UPDATE audit_head SET number = h.number + 1, hash = digest;
	RETURN h.number + 1;
END $$;
REVOKE ALL ON FUNCTION audit_append FROM PUBLIC;

-- Whose a credential is or was.
CREATE FUNCTION audit_who(hash bytea, OUT token_id bigint, OUT tenant_id int, OUT who jsonb) LANGUAGE sql STABLE
	SET search_path = fleetstate, pg_catalog, pg_temp AS $$
	SELECT k.token_id, k.tenant_id, jsonb_build_object('who', k.name, 'role', k.role, 'token', k.token_id)
			|| CASE WHEN s.session_id IS NULL THEN '{}' ELSE jsonb_build_object('session', s.session_id) END
		FROM (SELECT NULL::bigint AS session_id, t.token_id FROM api_token t WHERE t.hash = $1
			UNION ALL SELECT x.session_id, x.token_id FROM api_session x WHERE x.hash = $1) s JOIN api_token k ON k.token_id = s.token_id
$$;
REVOKE ALL ON FUNCTION audit_who FROM PUBLIC;

-- In the transaction of a change: they are both there or both not. The change feed tells it, too.
CREATE FUNCTION audit_changed(token_hash bytea, method text, target text, address text) RETURNS bigint LANGUAGE plpgsql SECURITY DEFINER
	SET search_path = fleetstate, pg_catalog, pg_temp AS $$
DECLARE
	entry jsonb; n bigint; mine int := tenant_context();
BEGIN
	entry := coalesce((SELECT w.who FROM audit_who(token_hash) w), '{}')
		|| jsonb_build_object('kind', 'change', 'method', method, 'target', target, 'address', address);
	n := audit_append(mine, now(), entry);
	-- Viewers read the feed: from where and with which credential is for the log's own readers.
	INSERT INTO event (tenant_id, type, data) SELECT mine, 'audit.change', (entry - '{address,token,session}'::text[]) || jsonb_build_object('number', n)
		WHERE mine IS NOT NULL;
	RETURN n;
END $$;

-- What was read, and what was refused, some seconds later. Equal ones in that time are one entry, with how many there were. `used` only tells when.
CREATE FUNCTION audit_noted(hashes bytea[], hints text[], tenants text[], kinds text[], methods text[], targets text[], addresses text[], statuses int[],
	counts bigint[], firsts timestamptz[], lasts timestamptz[]) RETURNS void LANGUAGE plpgsql SECURITY DEFINER
	SET search_path = fleetstate, pg_catalog, pg_temp AS $$
DECLARE
	r record; w record;
BEGIN
	-- Before the head is taken, and in order: who revokes a token has that row when it comes to the head.
	FOR r IN SELECT x.token_id, max(y.last) AS last FROM unnest(hashes, statuses, lasts) AS y (hash, status, last), audit_who(y.hash) x
		WHERE y.status <> 401 AND x.token_id IS NOT NULL GROUP BY 1 ORDER BY 1
	LOOP
		UPDATE api_token k SET last_used_at = r.last WHERE k.token_id = r.token_id
			AND (k.last_used_at IS NULL OR k.last_used_at < r.last - interval '1 minute');
	END LOOP;
	FOR r IN SELECT * FROM unnest(hashes, hints, tenants, kinds, methods, targets, addresses, statuses, counts, firsts, lasts)
		AS x (hash, hint, tenant, kind, method, target, address, status, n, first, last) ORDER BY x.first
	LOOP
		CONTINUE WHEN r.kind = 'used';
		SELECT * INTO w FROM audit_who(r.hash);
		PERFORM audit_append(coalesce(w.tenant_id, CASE WHEN w.token_id IS NOT NULL THEN (SELECT t.tenant_id FROM tenant t WHERE t.id = r.tenant) END), r.first,
			coalesce(w.who, jsonb_build_object('credential', r.hint)) || jsonb_build_object('kind', r.kind, 'method', r.method, 'target', r.target,
				'address', r.address, 'status', r.status)
			|| CASE WHEN r.n > 1 THEN jsonb_build_object('times', r.n, 'until', rfc3339(r.last)) ELSE '{}' END);
	END LOOP;
END $$;
REVOKE ALL ON FUNCTION audit_changed, audit_noted FROM PUBLIC;
GRANT EXECUTE ON FUNCTION audit_changed, audit_noted TO fleetstate_api;
