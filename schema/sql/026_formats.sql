-- A sink's format, apart from its kind: what an event looks like, not how it gets there.
ALTER TABLE sink ADD COLUMN format text NOT NULL DEFAULT 'native' CHECK (format IN ('native', 'ocsf', 'ecs', 'cef', 'cloudevents'));
UPDATE sink SET format = 'cloudevents' WHERE kind = 'webhook';

DROP FUNCTION add_tenant_sink(text, text, text, text, text, bytea, text, text, int, boolean);
DROP FUNCTION add_sink(text, text, text, text, text, text, bytea, text[], text, int, boolean);

CREATE FUNCTION add_sink(wanted text, name text, kind text, target text, ca text, certificate text, secret bytea, types text[], severity text,
	batch int, backlog boolean, format text) RETURNS int LANGUAGE plpgsql SET search_path = fleetstate, pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
	tenant int; made int;
BEGIN
	SELECT t.tenant_id INTO tenant FROM tenant t WHERE t.id = wanted;
	IF NOT FOUND AND wanted IS NOT NULL THEN
		RETURN NULL;
	END IF;
	INSERT INTO sink (tenant_id, name, kind, target, ca, certificate, secret, types, severity, batch, format) VALUES (tenant, add_sink.name,
		add_sink.kind, add_sink.target, add_sink.ca, add_sink.certificate, add_sink.secret, add_sink.types, add_sink.severity, add_sink.batch,
		add_sink.format) RETURNING sink_id INTO made;
	INSERT INTO sink_cursor (sink_id, tenant_id, position) SELECT made, tenant, CASE WHEN backlog THEN oldest - 1 ELSE top END FROM event_head;
	NOTIFY fleetstate_sink;
	RETURN made;
END $$;
REVOKE ALL ON FUNCTION add_sink FROM PUBLIC;

CREATE FUNCTION add_tenant_sink(name text, kind text, target text, ca text, certificate text, secret bytea, types text, severity text, batch int,
	backlog boolean, format text) RETURNS int LANGUAGE plpgsql SECURITY DEFINER SET search_path = fleetstate, pg_catalog, pg_temp AS $$
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
		CASE WHEN types = '' THEN '{}' ELSE string_to_array(types, ',') END, severity, batch, backlog, format);
EXCEPTION WHEN unique_violation THEN
	RAISE EXCEPTION 'there is a sink %', name USING ERRCODE = 'FS409';
END $$;
REVOKE ALL ON FUNCTION add_tenant_sink FROM PUBLIC;
GRANT EXECUTE ON FUNCTION add_tenant_sink TO fleetstate_api;

CREATE OR REPLACE FUNCTION tenant_sinks() RETURNS TABLE (item text, sink_id bigint) LANGUAGE sql STABLE SECURITY DEFINER
	SET search_path = fleetstate, pg_catalog, pg_temp AS $$
	SELECT json_build_object('id', s.sink_id, 'name', s.name, 'kind', s.kind, 'format', s.format, 'target', s.target, 'types', s.types,
			'severity', s.severity, 'batch', s.batch, 'created_at', rfc3339(s.created_at), 'behind', h.top - c.position,
			'delivered', c.delivered, 'retried', c.retried, 'dead', c.dead, 'missed', c.missed, 'delivered_at', rfc3339(c.delivered_at),
			'failing_since', rfc3339(c.failed_at), 'failure', c.failure)::text, s.sink_id::bigint
		FROM sink s JOIN sink_cursor c ON c.sink_id = s.sink_id, event_head h WHERE s.tenant_id = (SELECT tenant_context())
$$;
