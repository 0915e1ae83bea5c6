-- Lists of a million devices: where a device stands in its reports is looked up in less, and so is what few devices say.

-- A device of a page is looked up by its number alone, in most orders each on another page of index and table. A hash index has two pages for each where a
-- tree has four. Reports write neither: device_hot's when a device is added, device's whenever one of the columns changes that its other indexes have.
CREATE INDEX device_hot_look ON device_hot USING hash (device_id);
CREATE INDEX device_look ON device USING hash (device_id);
-- And for what is asked of where devices stand, in the order of enrolment.
CREATE INDEX device_hot_page ON device_hot (tenant_id, device_id);

-- What was not sorted into this index yet, of all tenants, is read by every search: no more than this, for a third more when a device is added.
ALTER INDEX device_words_parts SET (gin_pending_list_limit = 64);

-- What a text has in common with few of the tenant's devices: some of each three of its letters, from the end on, which have all of it. A look at one letter
-- triple takes as long as there are devices that have it, so a few devices, from the first to the last, say what is not rare. NULL: nothing is.
CREATE FUNCTION rare_parts(mine int, q text) RETURNS text[] LANGUAGE plpgsql STABLE AS $$
BEGIN
	IF length(q) < 3 THEN
		RETURN NULL;
	END IF;
	RETURN (WITH e AS MATERIALIZED (SELECT (SELECT w.device_id FROM device_words w WHERE w.tenant_id = mine ORDER BY w.device_id LIMIT 1) AS low,
			(SELECT w.device_id FROM device_words w WHERE w.tenant_id = mine ORDER BY w.device_id DESC LIMIT 1) AS high),
		s AS MATERIALIZED (SELECT x.words FROM e, generate_series(0, 11) i, LATERAL (SELECT w.words FROM device_words w WHERE w.tenant_id = mine
			AND w.device_id >= e.low + (e.high - e.low) * i / 12 ORDER BY w.device_id LIMIT 1) x),
		p AS (SELECT substr(q, greatest(length(q) - 3 * i - 2, 1), 3) AS part, min(i) AS i FROM generate_series(0, (length(q) - 1) / 3) i GROUP BY 1),
		n AS (SELECT p.*, (SELECT count(*) FROM s WHERE strpos(s.words, p.part) > 0) AS n FROM p)
		-- Two that nobody has leave little to look through, and each more costs as much as they do. Ends tell devices apart more than beginnings.
		SELECT (array_agg(mine || ':' || n.part ORDER BY n.n, n.i))[:CASE WHEN count(*) FILTER (WHERE n.n = 0) < 2 THEN 8 ELSE 2 END] FROM n WHERE n.n <= 1);
END $$;
-- The devices, in no order, whose words have all of the text and these parts. NULL: there are no parts, or more than `few` devices: to put them in order costs a page.
-- The parts say whose they are. The planner would rather go through all that the tenant has, so it is not told whose.
CREATE FUNCTION list_rare(parts text[], q text) RETURNS bigint[] LANGUAGE plpgsql STABLE SET enable_bitmapscan = on SET enable_indexscan = off AS $$
DECLARE
	few CONSTANT int := 500;
	found bigint[];
BEGIN
	IF parts IS NOT NULL THEN
		found := ARRAY(SELECT w.device_id FROM device_words w WHERE words_parts(w.tenant_id, w.words) @> parts
			AND w.words LIKE '%' || regexp_replace(q, '([\\%_])', '\\\1', 'g') || '%' LIMIT few + 1);
	END IF;
	RETURN CASE WHEN cardinality(found) <= few THEN found END;
END $$;
-- A page in the order of enrolment of what is looked for; one NULL: it can't be told by the index. Each device is looked up by itself: a plan that was made
-- when there were none, and is kept, would else go through all there are, other tenants' too.
CREATE FUNCTION device_rare(q text, falling boolean, place bigint, most int) RETURNS SETOF bigint LANGUAGE plpgsql STABLE SECURITY DEFINER
	SET search_path = fleetstate, pg_catalog, pg_temp AS $$
DECLARE
	mine int := tenant_context();
	found bigint[];
BEGIN
	IF mine IS NULL THEN
		RETURN;
	END IF;
	found := list_rare(rare_parts(mine, lower(q)), lower(q));
	IF found IS NULL THEN
		RETURN NEXT NULL;
	END IF;
	RETURN QUERY SELECT d.device_id FROM unnest(found) i (id), LATERAL (SELECT * FROM device d WHERE d.device_id = i.id OFFSET 0) d
		WHERE d.deleted_at IS NULL AND CASE WHEN falling THEN d.device_id < place ELSE d.device_id > place END
		ORDER BY CASE WHEN falling THEN -d.device_id ELSE d.device_id END LIMIT most;
END $$;
REVOKE ALL ON FUNCTION rare_parts, list_rare, device_rare FROM PUBLIC;
GRANT EXECUTE ON FUNCTION device_rare TO fleetstate_api;

-- As before; what few devices or none match is looked up before others are looked at one by one.
-- Up to most + 1 devices, in order, of a list in the order of enrolment that one filter makes, by statements whose plans are kept: to plan one costs as much
-- as a page. NULL: they are not found so cheaply, or it is another list. sets: as of list_filters.
CREATE OR REPLACE FUNCTION list_near(mine int, f jsonb, sets bytea[], falling boolean, behind bigint, most int) RETURNS bigint[] LANGUAGE plpgsql STABLE AS $$
DECLARE
	few CONSTANT int := 500;	-- by an index that has them in no order
	far int := 4000;	-- one by one
	patience CONSTANT interval := '50 ms';
	start timestamptz := clock_timestamp();
	name text := array_to_string(ARRAY(SELECT jsonb_object_keys(f - 'component_version')), ' ');
	place bigint := coalesce(behind, CASE WHEN falling THEN 9223372036854775807 ELSE 0 END);
	q text := lower(f ->> 'q');
	path jsonpath := CASE WHEN name = 'where' THEN f ->> 'where' END;
	since timestamptz := coalesce(f ->> 'changed_since', f ->> 'as_of')::timestamptz;
	part int := CASE name WHEN 'q' THEN 3 * most ELSE most * 9 / 8 + 2 END; looked int := 0;
	reached bigint := place; found bigint[] := '{}'; whole boolean := false; piece bigint[];
BEGIN
	IF name = 'changed_since' THEN
		found := ARRAY(SELECT w.device_id FROM device_history w WHERE w.tenant_id = mine AND w.valid_from >= since LIMIT few + 1)
			|| ARRAY(SELECT w.device_id FROM state_history w WHERE w.tenant_id = mine AND w.valid_from >= since LIMIT few + 1);
		whole := cardinality(found) <= few;
		found := CASE WHEN whole THEN found END;
	ELSIF name IN ('component', 'components') AND cardinality(sets) <= 100 THEN
		-- Of each inventory, whose devices are in order, a little more than its share: all of them up to where the first is left.
		part := 2 * most / cardinality(sets) + 6;
		SELECT array_agg(x.device_id), coalesce(bool_and(x.n < part), true), CASE WHEN falling THEN max(x.device_id) FILTER (WHERE x.n = part) ELSE min(x.device_id) FILTER (WHERE x.n = part) END
			INTO found, whole, reached
			FROM unnest(sets) i (digest), LATERAL (SELECT w.device_id, row_number() OVER () AS n FROM (
				(SELECT s.device_id FROM device_state s WHERE NOT falling AND s.tenant_id = mine AND s.inventory_digest = i.digest AND s.device_id > place
					ORDER BY s.device_id LIMIT part)
				UNION ALL (SELECT s.device_id FROM device_state s WHERE falling AND s.tenant_id = mine AND s.inventory_digest = i.digest AND s.device_id < place
					ORDER BY s.device_id DESC LIMIT part)) w) x;
		IF NOT whole THEN
			found := ARRAY(SELECT i.id FROM unnest(found) i (id) WHERE CASE WHEN falling THEN i.id >= reached ELSE i.id <= reached END);
		END IF;
	ELSIF name IN ('q', 'where', 'as_of') OR (name IN ('component', 'components') AND sets IS NOT NULL) THEN
		IF name = 'q' THEN
			found := list_rare(rare_parts(mine, q), q);
			whole := found IS NOT NULL;
			found := coalesce(found, '{}');
			far := 30000;	-- which are read in the order they lie in
		END IF;
		-- As far as it takes by what was found so far, unless that is too far, or one takes long to look at.
		WHILE NOT whole AND cardinality(found) <= most AND part <= far - looked AND clock_timestamp() < start + patience LOOP
			IF name = 'q' THEN
				SELECT array_agg(x.device_id), found || array_agg(x.device_id) FILTER (WHERE strpos(x.words, q) > 0) INTO piece, found FROM (
					(SELECT w.device_id, w.words FROM device_words w WHERE NOT falling AND w.tenant_id = mine AND w.device_id > reached
						ORDER BY w.device_id LIMIT part)
					UNION ALL (SELECT w.device_id, w.words FROM device_words w WHERE falling AND w.tenant_id = mine AND w.device_id < reached
						ORDER BY w.device_id DESC LIMIT part)) x;
			ELSE
				piece := ARRAY((SELECT w.device_id FROM device w WHERE NOT falling AND w.tenant_id = mine AND w.deleted_at IS NULL AND w.device_id > reached
						ORDER BY w.device_id LIMIT part)
					UNION ALL (SELECT w.device_id FROM device w WHERE falling AND w.tenant_id = mine AND w.deleted_at IS NULL AND w.device_id < reached
						ORDER BY w.device_id DESC LIMIT part));
				found := found || CASE name
					WHEN 'as_of' THEN ARRAY(SELECT i.id FROM unnest(piece) i (id) WHERE EXISTS
						(SELECT FROM device_history h WHERE h.device_id = i.id AND h.tenant_id = mine AND h.valid_from <= since))
					WHEN 'where' THEN ARRAY(SELECT s.device_id FROM unnest(piece) i (id), LATERAL (SELECT * FROM device_state s WHERE s.device_id = i.id OFFSET 0) s
						WHERE s.tenant_id = mine AND jsonb_path_match(s.state, path, '{}', true))
					ELSE ARRAY(SELECT s.device_id FROM unnest(piece) i (id), LATERAL (SELECT * FROM device_state s WHERE s.device_id = i.id OFFSET 0) s
						WHERE s.tenant_id = mine AND s.inventory_digest = ANY (sets)) END;
			END IF;
			whole := coalesce(cardinality(piece), 0) < part;
			reached := piece[part];
			looked := looked + part;
			part := (most + 2 - cardinality(found)) * looked::bigint * 5 / 4 / greatest(cardinality(found), 1);
			EXIT WHEN part > far - looked AND looked > far / 16;	-- of fewer it is too early to tell
			part := least(part, 4 * looked);
		END LOOP;
	ELSE
		RETURN NULL;
	END IF;
	IF name IN ('q', 'changed_since') THEN
		found := ARRAY(SELECT d.device_id FROM unnest(found) i (id), LATERAL (SELECT * FROM device d WHERE d.device_id = i.id OFFSET 0) d WHERE d.deleted_at IS NULL);
	END IF;
	found := ARRAY(SELECT DISTINCT ON (x.key) x.id FROM (SELECT i.id, CASE WHEN falling THEN -i.id ELSE i.id END AS key FROM unnest(found) i (id)
		WHERE CASE WHEN falling THEN i.id < place ELSE i.id > place END) x ORDER BY x.key LIMIT most + 1);
	RETURN CASE WHEN whole OR cardinality(found) > most THEN found END;
END $$;
