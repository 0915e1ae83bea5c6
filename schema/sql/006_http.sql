-- What the HTTP interface needs beside the tables.

-- Where the tenants' events end, in the order of the list: who waits for one is woken by it.
CREATE FUNCTION event_tops(tenants int[]) RETURNS TABLE (top bigint) LANGUAGE sql STABLE SECURITY DEFINER
	SET search_path = fleetstate, pg_catalog, pg_temp AS $$
	SELECT coalesce((SELECT max(e.position) FROM event e WHERE e.tenant_id = t.id), 0)
	FROM unnest(tenants) WITH ORDINALITY AS t (id, place) ORDER BY t.place
$$;
REVOKE ALL ON FUNCTION event_tops FROM PUBLIC;
GRANT EXECUTE ON FUNCTION event_tops TO fleetstate_api;
