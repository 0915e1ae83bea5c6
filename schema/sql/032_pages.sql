-- Lists of a million devices: what a page shows of a device in fewer rows, and what many devices match found by one statement.

-- What a report's state and inventory were, beside where the device stands in its reports: a list shows both, and looks up one row for them. device_state
-- has them first, and whatever changes it changes them here.
ALTER TABLE device_hot ADD state_digest bytea, ADD inventory_digest bytea;
UPDATE device_hot h SET state_digest = s.state_digest, inventory_digest = s.inventory_digest FROM device_state s WHERE s.device_id = h.device_id;
CREATE FUNCTION note_digests() RETURNS trigger LANGUAGE plpgsql SET search_path = fleetstate, pg_catalog, pg_temp AS $$
BEGIN
	IF TG_OP = 'DELETE' THEN
		UPDATE device_hot SET state_digest = NULL, inventory_digest = NULL WHERE device_id = OLD.device_id;
	ELSE
		UPDATE device_hot SET state_digest = NEW.state_digest, inventory_digest = NEW.inventory_digest WHERE device_id = NEW.device_id;
	END IF;
	RETURN NULL;
END $$;
REVOKE ALL ON FUNCTION note_digests FROM PUBLIC;
CREATE TRIGGER device_state_first AFTER INSERT ON device_state FOR EACH ROW EXECUTE FUNCTION note_digests();
CREATE TRIGGER device_state_again AFTER UPDATE OF state_digest, inventory_digest ON device_state FOR EACH ROW
	WHEN ((OLD.state_digest, OLD.inventory_digest) IS DISTINCT FROM (NEW.state_digest, NEW.inventory_digest)) EXECUTE FUNCTION note_digests();
CREATE TRIGGER device_state_gone AFTER DELETE ON device_state FOR EACH ROW EXECUTE FUNCTION note_digests();

-- What a list's statement asks beside the rows: what is wrong with a condition, whether what devices were is known from then on; and the words, which are the tenant's own.
GRANT EXECUTE ON FUNCTION predicate_fault TO fleetstate_api;
CREATE FUNCTION history_reaches(at timestamptz) RETURNS boolean LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = fleetstate, pg_catalog, pg_temp AS $$
BEGIN
	RETURN at >= history_begin(tenant_context());
END $$;
REVOKE ALL ON FUNCTION history_reaches FROM PUBLIC;
GRANT EXECUTE ON FUNCTION history_reaches TO fleetstate_api;
CREATE POLICY tenant ON device_words FOR SELECT TO fleetstate_api USING (tenant_id = (SELECT tenant_context()));
GRANT SELECT ON device_words TO fleetstate_api;

-- As before; what no device or few match is found by the index of the tenant's letters, which this did not name.
-- Up to most + 1 devices, in order, of a list in the order of enrolment that one filter makes, by statements whose plans are kept: to plan one costs as much
-- as a page. NULL: they are not found so cheaply, or it is another list. sets: as of list_filters.
CREATE OR REPLACE FUNCTION list_near(mine int, f jsonb, sets bytea[], falling boolean, behind bigint, most int) RETURNS bigint[] LANGUAGE plpgsql STABLE AS $$
DECLARE
	few CONSTANT int := 500;	-- by an index that has them in no order
	far CONSTANT int := 4000;	-- one by one
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
					WHEN 'where' THEN ARRAY(SELECT s.device_id FROM unnest(piece) i (id) JOIN device_state s ON s.device_id = i.id
						WHERE s.tenant_id = mine AND jsonb_path_match(s.state, path, '{}', true))
					ELSE ARRAY(SELECT s.device_id FROM unnest(piece) i (id) JOIN device_state s ON s.device_id = i.id
						WHERE s.tenant_id = mine AND s.inventory_digest = ANY (sets)) END;
			END IF;
			whole := coalesce(cardinality(piece), 0) < part;
			reached := piece[part];
			looked := looked + part;
			part := (most + 2 - cardinality(found)) * looked::bigint * 5 / 4 / greatest(cardinality(found), 1);
			EXIT WHEN part > far - looked;
			part := least(part, 4 * looked);
		END LOOP;
		IF name = 'q' AND NOT whole AND cardinality(found) <= most AND length(q) > 2 THEN
			-- Each three letters from the end on: they have all of it, and each that is looked up as well costs a look for every device that one of them finds.
			found := list_few(ARRAY[format('SELECT w.device_id FROM device_words w WHERE words_parts(w.tenant_id, w.words) @> %L AND w.tenant_id = %s AND w.words LIKE %L',
				ARRAY(SELECT DISTINCT mine || ':' || substr(q, greatest(length(q) - 3 * i - 2, 1), 3) FROM generate_series(0, (length(q) - 1) / 3) i), mine,
				'%' || regexp_replace(q, '([\\%_])', '\\\1', 'g') || '%')], few, NULL, NULL);
			whole := found IS NOT NULL;
		END IF;
	ELSE
		RETURN NULL;
	END IF;
	IF name IN ('q', 'changed_since') THEN
		found := ARRAY(SELECT d.device_id FROM unnest(found) i (id) JOIN device d ON d.device_id = i.id WHERE d.deleted_at IS NULL);
	END IF;
	found := ARRAY(SELECT DISTINCT ON (x.key) x.id FROM (SELECT i.id, CASE WHEN falling THEN -i.id ELSE i.id END AS key FROM unnest(found) i (id)
		WHERE CASE WHEN falling THEN i.id < place ELSE i.id > place END) x ORDER BY x.key LIMIT most + 1);
	RETURN CASE WHEN whole OR cardinality(found) > most THEN found END;
END $$;
