-- As before, and '-' for a device that is another tenant's by now: a tenant's policies go over some of its devices in more than one turn.
CREATE OR REPLACE FUNCTION own_found(policy int, devices bigint[]) RETURNS text LANGUAGE sql STABLE SECURITY DEFINER
	SET search_path = fleetstate, pg_catalog, pg_temp AS $$
	SELECT string_agg(CASE WHEN NOT p.enabled OR p.deleted_at IS NOT NULL OR d.tenant_id <> p.tenant_id
			OR NOT in_scope(p.models, p.firmwares, p.labels, d.hwmodel, d.swversion, d.labels)
			OR s.device_id IS NULL THEN '-' WHEN p.struck_out_at IS NOT NULL THEN '?'
		ELSE CASE jsonb_path_match(s.state, p.predicate, '{}', true) WHEN true THEN '1' WHEN false THEN '0' ELSE '?' END END, '' ORDER BY u.n)
	FROM unnest(devices) WITH ORDINALITY u (device_id, n) JOIN policy p ON p.policy_id = $1 JOIN device d ON d.device_id = u.device_id
		LEFT JOIN device_state s ON s.device_id = u.device_id
$$;
