-- A tenant's own sinks, as its administrators see and make them over HTTP. The secret stays sealed, and is shown to nobody.

CREATE FUNCTION tenant_sinks() RETURNS TABLE (item text, sink_id bigint) LANGUAGE sql STABLE SECURITY DEFINER
	SET search_path = fleetstate, pg_catalog, pg_temp AS $$
	SELECT json_build_object('id', s.sink_id, 'name', s.name, 'kind', s.kind, 'target', s.target, 'types', s.types, 'severity', s.severity,
			'batch', s.batch, 'created_at', rfc3339(s.created_at), 'behind', h.top - c.position, 'delivered', c.delivered, 'retried', c.retried,
			'dead', c.dead, 'missed', c.missed, 'delivered_at', rfc3339(c.delivered_at), 'failing_since', rfc3339(c.failed_at),
			'failure', c.failure)::text, s.sink_id::bigint
		FROM sink s JOIN sink_cursor c ON c.sink_id = s.sink_id, event_head h WHERE s.tenant_id = (SELECT tenant_context())
$$;

CREATE FUNCTION add_tenant_sink(name text, kind text, target text, ca text, certificate text, secret bytea, types text, severity text, batch int,
	backlog boolean) RETURNS int LANGUAGE plpgsql SECURITY DEFINER SET search_path = fleetstate, pg_catalog, pg_temp AS $$
#variable_conflict use_variable
DECLARE
	mine int := tenant_context();
BEGIN
	PERFORM FROM tenant t WHERE t.tenant_id = mine FOR NO KEY UPDATE;
	IF NOT FOUND THEN
		RAISE EXCEPTION 'no tenant' USING ERRCODE = 'FS403';
	END IF;
	IF (SELECT count(*) FROM sink s WHERE s.tenant_id = mine) >= 32 THEN
		RAISE EXCEPTION 'no more than 32 sinks' USING ERRCODE = 'FS409';
	END IF;
	RETURN add_sink((SELECT t.id FROM tenant t WHERE t.tenant_id = mine), name, kind, target, ca, certificate, secret,
		CASE WHEN types = '' THEN '{}' ELSE string_to_array(types, ',') END, severity, batch, backlog);
EXCEPTION WHEN unique_violation THEN
	RAISE EXCEPTION 'there is a sink %', name USING ERRCODE = 'FS409';
END $$;

CREATE FUNCTION remove_tenant_sink(id bigint) RETURNS boolean LANGUAGE plpgsql SECURITY DEFINER SET search_path = fleetstate, pg_catalog, pg_temp AS $$
BEGIN
	DELETE FROM sink WHERE sink_id = id AND tenant_id = tenant_context();
	IF FOUND THEN
		NOTIFY fleetstate_sink;
	END IF;
	RETURN FOUND;
END $$;

REVOKE ALL ON FUNCTION tenant_sinks, add_tenant_sink, remove_tenant_sink FROM PUBLIC;
GRANT EXECUTE ON FUNCTION tenant_sinks, add_tenant_sink, remove_tenant_sink TO fleetstate_api;
