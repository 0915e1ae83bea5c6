-- The audit log's own retention, and one change of its head for all that is noted at once.

ALTER TABLE audit_head ADD gone bigint NOT NULL DEFAULT 0;	-- the last entry that went; 0: none did
ALTER TABLE audit_head ADD gone_hash bytea NOT NULL DEFAULT decode(repeat('00', 32), 'hex') CHECK (length(gone_hash) = 32);	-- its hash, on which the first one kept goes on
ALTER TABLE audit_head ADD kept_least interval NOT NULL DEFAULT '90 days' CHECK (kept_least >= interval '1 day');	-- whatever a collector asks for

-- Writes an entry behind the head, and says what the head is then.
CREATE FUNCTION audit_write(head audit_head, mine int, at timestamptz, entry jsonb) RETURNS audit_head LANGUAGE plpgsql
	SET search_path = fleetstate, pg_catalog, pg_temp AS $$
DECLARE
	said text;
BEGIN
	head.number := head.number + 1;
	said := (jsonb_build_object('number', head.number, 'time', rfc3339(at), 'tenant', (SELECT t.id FROM tenant t WHERE t.tenant_id = mine)) || entry)::text;
	head.hash := sha256(head.hash || convert_to(said, 'UTF8'));
	INSERT INTO audit VALUES (head.number, mine, at, said, head.hash);
	RETURN head;
END $$;
REVOKE ALL ON FUNCTION audit_write FROM PUBLIC;

CREATE OR REPLACE FUNCTION audit_append(mine int, at timestamptz, entry jsonb) RETURNS bigint LANGUAGE plpgsql
	SET search_path = fleetstate, pg_catalog, pg_temp AS $$
DECLARE
	h audit_head;
BEGIN
	SELECT * INTO h FROM audit_head FOR UPDATE;
	h := audit_write(h, mine, at, entry);
	UPDATE audit_head SET number = h.number, hash = h.hash;
	RETURN h.number;
END $$;

-- As before, with the head changed once.
CREATE OR REPLACE FUNCTION audit_noted(hashes bytea[], hints text[], tenants text[], kinds text[], methods text[], targets text[], addresses text[], statuses int[],
	counts bigint[], firsts timestamptz[], lasts timestamptz[]) RETURNS void LANGUAGE plpgsql SECURITY DEFINER
	SET search_path = fleetstate, pg_catalog, pg_temp AS $$
DECLARE
	r record; w record; h audit_head; mine int;
BEGIN
	-- Before the head is taken, and in order: who revokes a token has that row when it comes to the head.
	FOR r IN SELECT x.token_id, max(y.last) AS last FROM unnest(hashes, statuses, lasts) AS y (hash, status, last), audit_who(y.hash) x
		WHERE y.status <> 401 AND x.token_id IS NOT NULL GROUP BY 1 ORDER BY 1
	LOOP
		UPDATE api_token k SET last_used_at = r.last WHERE k.token_id = r.token_id
			AND (k.last_used_at IS NULL OR k.last_used_at < r.last - interval '1 minute');
	END LOOP;
	IF NOT EXISTS (SELECT FROM unnest(kinds) k WHERE k <> 'used') THEN
		RETURN;
	END IF;
	SELECT * INTO h FROM audit_head FOR UPDATE;
	FOR r IN SELECT * FROM unnest(hashes, hints, tenants, kinds, methods, targets, addresses, statuses, counts, firsts, lasts)
		AS x (hash, hint, tenant, kind, method, target, address, status, n, first, last) WHERE kind <> 'used' ORDER BY x.first
	LOOP
		SELECT * INTO w FROM audit_who(r.hash);
		mine := coalesce(w.tenant_id, CASE WHEN w.token_id IS NOT NULL THEN (SELECT t.tenant_id FROM tenant t WHERE t.id = r.tenant) END);
		h := audit_write(h, mine, r.first, coalesce(w.who, jsonb_build_object('credential', r.hint)) || jsonb_build_object('kind', r.kind,
				'method', r.method, 'target', r.target, 'address', r.address, 'status', r.status)
			|| CASE WHEN r.n > 1 THEN jsonb_build_object('times', r.n, 'until', rfc3339(r.last)) ELSE '{}' END);
	END LOOP;
	UPDATE audit_head SET number = h.number, hash = h.hash;
END $$;

-- Drops entries older than `keep`, and than what only the owner may set, from the first on and at most ten thousand, and says how many. Only what is older than the last checkpoint, which speaks
-- for it, unless told otherwise. The hash of the last one that went stays, so that what is kept is verified from there on.
CREATE FUNCTION expire_audit(keep interval, uncovered boolean) RETURNS bigint LANGUAGE plpgsql SECURITY DEFINER
	SET search_path = fleetstate, pg_catalog, pg_temp AS $$
DECLARE
	until timestamptz; last bigint; n bigint;
BEGIN
	SELECT now() - greatest(keep, h.kept_least) INTO until FROM audit_head h;
	IF NOT uncovered THEN
		until := least(until, (SELECT coalesce(max(made_at), '-infinity') FROM checkpoint));
	END IF;
	-- One at a time, and nobody appends meanwhile.
	PERFORM FROM audit_head FOR UPDATE;
	-- What was noted may stand behind what is younger: it goes up to the first entry that stays.
	SELECT coalesce(min(x.number) FILTER (WHERE x.time >= until) - 1, max(x.number)) INTO last
		FROM (SELECT a.number, a.time FROM audit a ORDER BY a.number LIMIT 10000) x;
	IF NOT EXISTS (SELECT FROM audit a WHERE a.number = last) THEN
		RETURN 0;
	END IF;
	UPDATE audit_head SET gone = last, gone_hash = (SELECT a.hash FROM audit a WHERE a.number = last);
	DELETE FROM audit a WHERE a.number <= last;
	GET DIAGNOSTICS n = ROW_COUNT;
	RETURN n;
END $$;
REVOKE ALL ON FUNCTION expire_audit FROM PUBLIC;
GRANT EXECUTE ON FUNCTION expire_audit TO fleetstate_ingest;
