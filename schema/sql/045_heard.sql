-- The order in which devices were last heard, of more devices than can be put in it while somebody waits. Each report moves a device in it, so that an index
-- would be written by each: it is made anew now and then instead.

-- No more than these are put in order as they are asked for.
CREATE FUNCTION heard_few() RETURNS int LANGUAGE sql IMMUTABLE PARALLEL SAFE AS 'SELECT 20000';

-- A tenant's devices by when they were heard, those that never were first: a piece has some, from the first of them on. Made from what lasts, so nothing of it need be kept.
CREATE UNLOGGED TABLE heard_order (
	tenant_id int NOT NULL,
	first_at timestamptz NOT NULL,
	first_id bigint NOT NULL,
	devices bigint[] NOT NULL,
	heard_at timestamptz[] NOT NULL,
	PRIMARY KEY (tenant_id, first_at, first_id)
) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000);
ALTER TABLE heard_order ALTER devices SET STORAGE PLAIN, ALTER heard_at SET STORAGE PLAIN;
CREATE UNLOGGED TABLE heard_made (
	at timestamptz NOT NULL,
	took interval NOT NULL
);
ALTER TABLE heard_order ENABLE ROW LEVEL SECURITY;
ALTER TABLE heard_order FORCE ROW LEVEL SECURITY;
CREATE POLICY owner ON heard_order TO fleetstate_owner USING (true);

-- Makes it for all who have that many: every minute, or more seldom, so that a fiftieth of the time goes into it; at once for who has none yet. Returns how
-- many devices were put in order; none when another collector is at it.
CREATE FUNCTION order_heard() RETURNS bigint LANGUAGE plpgsql SECURITY DEFINER SET search_path = fleetstate, pg_catalog, pg_temp SET work_mem = '128MB' AS $$
DECLARE
	piece CONSTANT int := 50;
	start CONSTANT timestamptz := clock_timestamp();
	large CONSTANT int[] := ARRAY(SELECT t.tenant_id FROM fleet_tally t WHERE t.kind = 'posture' GROUP BY 1 HAVING sum(t.n) > heard_few());
	n bigint;
BEGIN
	IF NOT pg_try_advisory_xact_lock(8259, 45) THEN
		RETURN 0;
	ELSIF EXISTS (SELECT FROM heard_made m WHERE start BETWEEN m.at AND m.at + greatest(interval '1 min', m.took * 50))
			AND NOT EXISTS (SELECT FROM unnest(large) l (id) WHERE NOT EXISTS (SELECT FROM heard_order o WHERE o.tenant_id = l.id)) THEN
		RETURN 0;
	END IF;
	DELETE FROM heard_order;
	DELETE FROM heard_made;
	INSERT INTO heard_order SELECT x.tenant_id, min(x.at), min(x.device_id) FILTER (WHERE x.n % piece = 0), array_agg(x.device_id), array_agg(x.at)
		FROM (SELECT y.tenant_id, y.device_id, y.at, row_number() OVER (PARTITION BY y.tenant_id ORDER BY y.at, y.device_id) - 1 AS n
			FROM (SELECT h.tenant_id, h.device_id, coalesce(h.last_seen, '-infinity') AS at FROM device_hot h WHERE h.tenant_id = ANY (large)
					-- Those that were deleted stand there still, as if they had not been heard.
					AND NOT EXISTS (SELECT FROM device d WHERE d.device_id = h.device_id AND d.lifecycle <> 'active' AND d.deleted_at IS NOT NULL)
				-- Those that were registered and not heard yet stand nowhere in their reports.
				UNION ALL SELECT d.tenant_id, d.device_id, '-infinity' FROM device d WHERE d.tenant_id = ANY (large) AND d.first_seen IS NULL AND d.deleted_at IS NULL
					AND NOT EXISTS (SELECT FROM device_hot h WHERE h.device_id = d.device_id)) y) x GROUP BY x.tenant_id, x.n / piece;
	SELECT coalesce(sum(cardinality(o.devices)), 0) INTO n FROM heard_order o;
	INSERT INTO heard_made VALUES (start, clock_timestamp() - start);
	RETURN n;
END $$;
REVOKE ALL ON FUNCTION order_heard FROM PUBLIC;
GRANT EXECUTE ON FUNCTION order_heard TO fleetstate_ingest;

-- As of when a tenant's list goes along the order: as of its first page, or now when the last of them had been heard as the order was made, no sooner than a
-- cursor can say. NULL: there is none, or the list began without it and shows what was heard since, which would come once more.
CREATE FUNCTION heard_until(tenant int, began timestamptz) RETURNS timestamptz LANGUAGE plpgsql STABLE SET search_path = fleetstate, pg_catalog, pg_temp AS $$
BEGIN
	RETURN (SELECT coalesce(began, x.last) FROM (SELECT greatest(max(i.at), 'epoch'::timestamptz + interval '1 us') AS last FROM (SELECT o.heard_at FROM heard_order o
		WHERE o.tenant_id = tenant ORDER BY o.first_at DESC, o.first_id DESC LIMIT 1) o, unnest(o.heard_at) i (at) HAVING count(*) > 0) x
		WHERE (began > greatest(x.last, (SELECT max(m.at) FROM heard_made m))) IS NOT TRUE);
END $$;
REVOKE ALL ON FUNCTION heard_until FROM PUBLIC;

-- So many of the tenant's devices behind the place, in this order; without those that were heard after that time. No place: from its beginning; no time: as
-- far as the order goes, which is told. What is deleted since is passed over.
CREATE FUNCTION heard_page(falling boolean, place timestamptz, id bigint, until timestamptz, most int)
	RETURNS TABLE (device_id bigint, at timestamptz, since timestamptz, ueid bytea, card bytea)
	LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = fleetstate, pg_catalog, pg_temp AS $$
#variable_conflict use_variable
DECLARE
	mine CONSTANT int := tenant_context();
	ids bigint[]; times timestamptz[]; pieces int; n int;
BEGIN
	place := coalesce(place, CASE WHEN falling THEN 'infinity' ELSE '-infinity' END::timestamptz);
	id := coalesce(id, 0);
	until := heard_until(mine, until);
	LOOP
		pieces := most / 50 + 2;	-- as order_heard makes them; of smaller ones it would take another round
		IF falling THEN
			SELECT array_agg(x.id), array_agg(x.at) INTO ids, times FROM (SELECT i.id, i.at FROM
				(SELECT o.devices, o.heard_at FROM heard_order o WHERE o.tenant_id = mine AND (o.first_at, o.first_id) < (place, id)
					ORDER BY o.first_at DESC, o.first_id DESC LIMIT pieces) o, unnest(o.devices, o.heard_at) i (id, at)
				WHERE i.at <= until AND (i.at, i.id) < (place, id) ORDER BY i.at DESC, i.id DESC LIMIT most) x;
		ELSE
			SELECT array_agg(x.id), array_agg(x.at) INTO ids, times FROM (SELECT i.id, i.at FROM
				((SELECT o.devices, o.heard_at FROM heard_order o WHERE o.tenant_id = mine AND (o.first_at, o.first_id) <= (place, id)
					ORDER BY o.first_at DESC, o.first_id DESC LIMIT 1)
				UNION ALL (SELECT o.devices, o.heard_at FROM heard_order o WHERE o.tenant_id = mine AND (o.first_at, o.first_id) > (place, id)
					ORDER BY o.first_at, o.first_id LIMIT pieces)) o, unnest(o.devices, o.heard_at) i (id, at)
				WHERE i.at <= until AND (i.at, i.id) > (place, id) ORDER BY i.at, i.id LIMIT most) x;
		END IF;
		EXIT WHEN ids IS NULL;
		RETURN QUERY SELECT i.id, i.at, until, d.ueid, d.card FROM unnest(ids, times) WITH ORDINALITY i (id, at, n),
			LATERAL (SELECT d.ueid, d.card FROM device d WHERE d.device_id = i.id AND d.tenant_id = mine AND d.deleted_at IS NULL OFFSET 0) d ORDER BY i.n;
		GET DIAGNOSTICS n = ROW_COUNT;
		most := most - n;
		EXIT WHEN most = 0;
		place := times[cardinality(times)];
		id := ids[cardinality(ids)];
	END LOOP;
END $$;
REVOKE ALL ON FUNCTION heard_page FROM PUBLIC;
GRANT EXECUTE ON FUNCTION heard_page TO fleetstate_api;

-- As before, but that of more devices than can be put in order at once those are told that were: along the order that was made.
DO $do$
DECLARE
	list text := pg_get_functiondef('device_list'::regproc);
	change record;
BEGIN
	FOR change IN VALUES
		('ids bigint[]; keys text[];', 'ordered timestamptz; ids bigint[]; keys text[];'),
		('so there is no index to go along.', 'so there is no index to go along: a few are put in it now, all were when it was made.
		ordered := heard_until(mine, began);'),
		('by_index || format(''SELECT w.device_id FROM device w WHERE w.tenant_id = %s'', mine), few,',
			'by_index || CASE WHEN ordered IS NULL THEN ARRAY[format(''SELECT w.device_id FROM device w WHERE w.tenant_id = %s AND w.deleted_at IS NULL'', mine)] END, heard_few(),'),
		('		IF chosen IS NULL THEN
			PERFORM refuse_filter(format(''sort: by last_seen go at most %s devices. Narrow the list by posture, lifecycle, model, firmware, label, q, component or changed_since.'', few));
		END IF;', '		IF chosen IS NOT NULL THEN
			ordered := NULL;
		ELSIF ordered IS NULL THEN
			RAISE EXCEPTION ''So many devices are put in the order in which they were heard every minute, and were not yet. Narrow the list, or ask again.'' USING ERRCODE = ''FS503'';
		ELSE
			expression := ''i.at'';
		END IF;'),
		('since := coalesce(began, (SELECT max(h.last_seen) FROM unnest(chosen) i (id) JOIN device_hot h ON h.device_id = i.id), since);',
			'since := coalesce(began, greatest(since, ordered, (SELECT max(h.last_seen) FROM unnest(chosen) i (id) JOIN device_hot h ON h.device_id = i.id)));'),
		('				-- A few of each value, by its index.', '				WHEN ordered IS NOT NULL THEN format(''heard_page(%L, %L, %L, %L, %s) i (id, at), LATERAL (SELECT * FROM device w WHERE w.device_id = i.id OFFSET 0) w'',
					falling, reached_key, reached, since, chunk)
				-- A few of each value, by its index.') LOOP
		IF strpos(list, change.column1) = 0 THEN
			RAISE EXCEPTION 'device_list is not as it was: %', change.column1;
		END IF;
		list := replace(list, change.column1, change.column2);
	END LOOP;
	EXECUTE list;
END $do$;
