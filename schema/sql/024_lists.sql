-- Lists of devices: in an order, narrowed by filters, a page at a time. What a page costs has a bound, whatever is asked for and however far it is read.

-- In the order of severity.
CREATE FUNCTION posture_rank(posture text) RETURNS int LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
	SELECT CASE posture WHEN 'untrusted' THEN 1 WHEN 'silent' THEN 2 WHEN 'degraded' THEN 3 WHEN 'unknown' THEN 4 ELSE 5 END
$$;

-- What has none comes first, or last. No coalesce: row-level security takes a condition with one for leaky, and does not look it up in an index.
CREATE FUNCTION list_key(value text) RETURNS text LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$ SELECT CASE WHEN value IS NULL THEN '' ELSE value END $$;
CREATE FUNCTION list_key(value timestamptz) RETURNS timestamptz LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
	SELECT CASE WHEN value IS NULL THEN 'infinity' ELSE value END
$$;

-- When the device last moved in a list that is in order of what it says of itself.
ALTER TABLE device ADD described_at timestamptz;
CREATE FUNCTION note_described() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	NEW.described_at := now();
	RETURN NEW;
END $$;
CREATE TRIGGER device_described BEFORE UPDATE OF serial, hwmodel, swversion ON device FOR EACH ROW
	WHEN ((OLD.serial, OLD.hwmodel, OLD.swversion) IS DISTINCT FROM (NEW.serial, NEW.hwmodel, NEW.swversion)) EXECUTE FUNCTION note_described();

-- One index an order. Those of text are in the order of bytes, everywhere the same; they serve the filters too.
DROP INDEX device_posture, device_model, device_firmware;
CREATE INDEX device_by_ueid ON device (tenant_id, ueid, device_id);
CREATE INDEX device_by_serial ON device (tenant_id, list_key(serial) COLLATE "C", device_id);
CREATE INDEX device_by_model ON device (tenant_id, list_key(hwmodel) COLLATE "C", device_id);
CREATE INDEX device_by_firmware ON device (tenant_id, list_key(swversion) COLLATE "C", device_id);
CREATE INDEX device_by_posture ON device (tenant_id, posture_rank(posture), device_id);
CREATE INDEX device_by_posture_since ON device (tenant_id, posture_since, device_id);
CREATE INDEX device_by_first_seen ON device (tenant_id, list_key(first_seen), device_id);
CREATE INDEX device_described ON device (tenant_id, described_at) WHERE described_at IS NOT NULL;
CREATE INDEX device_lifecycle ON device (tenant_id, lifecycle, device_id) WHERE lifecycle <> 'active';

-- What is searched, in lower case, a line each. Apart from the device, whose posture changes more often.
CREATE TABLE device_words (
	device_id bigint PRIMARY KEY REFERENCES device ON DELETE CASCADE,
	tenant_id int NOT NULL,
	words text NOT NULL
);
CREATE INDEX device_words_page ON device_words (tenant_id, device_id);
-- The labels, each also by its key alone.
CREATE TABLE device_mark (
	tenant_id int NOT NULL,
	mark text COLLATE "C" NOT NULL,
	device_id bigint NOT NULL REFERENCES device ON DELETE CASCADE,
	PRIMARY KEY (tenant_id, mark, device_id)
);
CREATE INDEX device_mark_device ON device_mark (device_id);
CREATE FUNCTION words_of(ueid bytea, serial text, hwmodel text, swname text, swversion text, labels text[]) RETURNS text LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
	SELECT lower(concat_ws(E'\n', encode(ueid, 'hex'), serial, hwmodel, swname, swversion, array_to_string(labels, E'\n')))
$$;
-- What text that contains another has in common with it, by index: each three letters, with the tenant. An index of the letters alone would go through
-- other tenants' devices too, and take the longer the more of them match. By their numbers they would take the square of the text's length to find.
CREATE FUNCTION words_parts(tenant int, words text) RETURNS text[] LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
	SELECT ARRAY(SELECT DISTINCT tenant || ':' || a || b || c FROM (SELECT a, lead(a) OVER w AS b, lead(a, 2) OVER w AS c
		FROM string_to_table(words, NULL) WITH ORDINALITY letter (a, i) WINDOW w AS (ORDER BY i)) x WHERE c IS NOT NULL)
$$;
CREATE INDEX device_words_parts ON device_words USING gin (words_parts(tenant_id, words));
CREATE FUNCTION marks_of(labels text[]) RETURNS SETOF text LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
	SELECT l FROM unnest(labels) l UNION SELECT split_part(l, '=', 1) FROM unnest(labels) l
$$;

-- What each device was: a row for each change of what a list shows of it, but for where it stands in its reports. Never changed;
-- one that another took the place of goes some day.
CREATE TABLE device_history (
	history_id bigint PRIMARY KEY GENERATED ALWAYS AS IDENTITY,
	valid_from timestamptz NOT NULL DEFAULT clock_timestamp(),	-- under the device's lock: transactions end in another order than they begin
	device_id bigint NOT NULL REFERENCES device ON DELETE CASCADE,
	tenant_id int NOT NULL,
	lifecycle text NOT NULL,
	posture text NOT NULL,
	reasons text[] NOT NULL,
	posture_since timestamptz NOT NULL,
	first_seen timestamptz,
	serial text, vendor text, hwmodel text, hwversion text, oemid text, swname text, swversion text, kernel text,
	support_until date, end_of_life date,
	unknowns int NOT NULL,
	labels text[] NOT NULL
);
CREATE INDEX device_history_device ON device_history (device_id, valid_from, history_id);
CREATE INDEX device_history_time ON device_history (tenant_id, valid_from, device_id);
CREATE INDEX state_history_time ON state_history (tenant_id, valid_from, device_id);
-- Since when it is kept.
CREATE TABLE device_history_begin (at timestamptz NOT NULL);

CREATE FUNCTION note_devices() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = fleetstate, pg_catalog, pg_temp AS $$
BEGIN
	IF TG_OP = 'INSERT' THEN
		INSERT INTO device_history (device_id, tenant_id, lifecycle, posture, reasons, posture_since, first_seen, serial, vendor, hwmodel, hwversion, oemid,
			swname, swversion, kernel, support_until, end_of_life, unknowns, labels)
			SELECT device_id, tenant_id, lifecycle, posture, reasons, posture_since, first_seen, serial, vendor, hwmodel, hwversion, oemid,
			swname, swversion, kernel, support_until, end_of_life, unknowns, labels FROM fresh ORDER BY device_id;
		INSERT INTO device_words SELECT device_id, tenant_id, words_of(ueid, serial, hwmodel, swname, swversion, labels) FROM fresh;
		INSERT INTO device_mark SELECT f.tenant_id, m, f.device_id FROM fresh f, marks_of(f.labels) m;
		RETURN NULL;
	END IF;
	INSERT INTO device_history (device_id, tenant_id, lifecycle, posture, reasons, posture_since, first_seen, serial, vendor, hwmodel, hwversion, oemid,
			swname, swversion, kernel, support_until, end_of_life, unknowns, labels)
		SELECT f.device_id, f.tenant_id, f.lifecycle, f.posture, f.reasons, f.posture_since, f.first_seen, f.serial, f.vendor, f.hwmodel, f.hwversion,
			f.oemid, f.swname, f.swversion, f.kernel, f.support_until, f.end_of_life, f.unknowns, f.labels
		FROM fresh f JOIN stale s USING (device_id)
		WHERE (f.tenant_id, f.lifecycle, f.posture, f.reasons, f.posture_since, f.first_seen, f.serial, f.vendor, f.hwmodel, f.hwversion,
			f.oemid, f.swname, f.swversion, f.kernel, f.support_until, f.end_of_life, f.unknowns, f.labels)
			IS DISTINCT FROM (s.tenant_id, s.lifecycle, s.posture, s.reasons, s.posture_since, s.first_seen, s.serial, s.vendor, s.hwmodel, s.hwversion,
				s.oemid, s.swname, s.swversion, s.kernel, s.support_until, s.end_of_life, s.unknowns, s.labels)
		ORDER BY f.device_id;
	UPDATE device_words x SET tenant_id = f.tenant_id, words = words_of(f.ueid, f.serial, f.hwmodel, f.swname, f.swversion, f.labels)
		FROM fresh f JOIN stale s USING (device_id) WHERE x.device_id = f.device_id AND (f.tenant_id, f.serial, f.hwmodel, f.swname, f.swversion, f.labels)
			IS DISTINCT FROM (s.tenant_id, s.serial, s.hwmodel, s.swname, s.swversion, s.labels);
	IF EXISTS (SELECT FROM fresh f JOIN stale s USING (device_id) WHERE (f.tenant_id, f.labels) IS DISTINCT FROM (s.tenant_id, s.labels)) THEN
		DELETE FROM device_mark x USING fresh f WHERE x.device_id = f.device_id
			AND NOT (x.tenant_id = f.tenant_id AND x.mark IN (SELECT m FROM marks_of(f.labels) m));
		INSERT INTO device_mark SELECT f.tenant_id, m, f.device_id FROM fresh f, marks_of(f.labels) m ON CONFLICT DO NOTHING;
	END IF;
	RETURN NULL;
END $$;
CREATE TRIGGER device_noted_first AFTER INSERT ON device REFERENCING NEW TABLE AS fresh FOR EACH STATEMENT EXECUTE FUNCTION note_devices();
CREATE TRIGGER device_noted_again AFTER UPDATE ON device REFERENCING OLD TABLE AS stale NEW TABLE AS fresh FOR EACH STATEMENT EXECUTE FUNCTION note_devices();

INSERT INTO device_history_begin SELECT CASE WHEN EXISTS (SELECT FROM device) THEN now() ELSE '-infinity' END;
INSERT INTO device_history (device_id, tenant_id, lifecycle, posture, reasons, posture_since, first_seen, serial, vendor, hwmodel, hwversion, oemid,
		swname, swversion, kernel, support_until, end_of_life, unknowns, labels)
	SELECT device_id, tenant_id, lifecycle, posture, reasons, posture_since, first_seen, serial, vendor, hwmodel, hwversion, oemid,
		swname, swversion, kernel, support_until, end_of_life, unknowns, labels FROM device ORDER BY device_id;
INSERT INTO device_words SELECT device_id, tenant_id, words_of(ueid, serial, hwmodel, swname, swversion, labels) FROM device;
INSERT INTO device_mark SELECT d.tenant_id, m, d.device_id FROM device d, marks_of(d.labels) m;

-- Which policies each device violates, by their names: the outcomes that make a posture, as rows that an index has in the order of enrolment.
CREATE TABLE device_violation (
	tenant_id int NOT NULL,
	policy text NOT NULL,
	device_id bigint NOT NULL REFERENCES device ON DELETE CASCADE,
	PRIMARY KEY (tenant_id, policy, device_id)
);
CREATE INDEX device_violation_device ON device_violation (device_id);
-- The outcomes without those that are no violations.
CREATE FUNCTION violated(outcomes text) RETURNS text LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$ SELECT rtrim(translate(outcomes, 'cuh?0pd', '111----'), '-') $$;
CREATE FUNCTION violations_of(tenant int, outcomes text, own_outcomes text) RETURNS text[] LANGUAGE sql STABLE AS $$
	SELECT coalesce(array_agg(DISTINCT p.id), '{}') FROM policy p WHERE p.slot IS NOT NULL
		AND (p.tenant_id IS NULL AND substr(violated(outcomes), p.slot, 1) = '1' OR p.tenant_id = tenant AND substr(violated(own_outcomes), p.slot, 1) = '1')
$$;
CREATE FUNCTION note_violations() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = fleetstate, pg_catalog, pg_temp AS $$
DECLARE
	policies text[] := violations_of(NEW.tenant_id, NEW.outcomes, NEW.own_outcomes);
BEGIN
	DELETE FROM device_violation x WHERE x.device_id = NEW.device_id AND NOT (x.tenant_id = NEW.tenant_id AND x.policy = ANY (policies));
	INSERT INTO device_violation SELECT NEW.tenant_id, p, NEW.device_id FROM unnest(policies) p ON CONFLICT DO NOTHING;
	RETURN NULL;
END $$;
CREATE TRIGGER device_violation_first AFTER INSERT ON device_verdict FOR EACH ROW WHEN (violated(NEW.outcomes) || violated(NEW.own_outcomes) <> '')
	EXECUTE FUNCTION note_violations();
CREATE TRIGGER device_violation_again AFTER UPDATE OF tenant_id, outcomes, own_outcomes ON device_verdict FOR EACH ROW
	WHEN ((OLD.tenant_id, violated(OLD.outcomes), violated(OLD.own_outcomes)) IS DISTINCT FROM (NEW.tenant_id, violated(NEW.outcomes), violated(NEW.own_outcomes)))
	EXECUTE FUNCTION note_violations();
INSERT INTO device_violation SELECT v.tenant_id, p, v.device_id FROM device_verdict v, unnest(violations_of(v.tenant_id, v.outcomes, v.own_outcomes)) p;

DO $$
DECLARE t text;
BEGIN
	FOREACH t IN ARRAY ARRAY['device_words', 'device_mark', 'device_history', 'device_history_begin', 'device_violation'] LOOP
		EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY', t);
		EXECUTE format('ALTER TABLE %I FORCE ROW LEVEL SECURITY', t);
		EXECUTE format('CREATE POLICY owner ON %I TO fleetstate_owner USING (true)', t);
	END LOOP;
END $$;
CREATE POLICY tenant ON device_history FOR SELECT TO fleetstate_api USING (tenant_id = (SELECT tenant_context()));
CREATE POLICY tenant ON device_violation FOR SELECT TO fleetstate_api USING (tenant_id = (SELECT tenant_context()));
CREATE POLICY tenant ON device_mark FOR SELECT TO fleetstate_api USING (tenant_id = (SELECT tenant_context()));
GRANT SELECT ON device_history, device_violation, device_mark TO fleetstate_api;
REVOKE ALL ON FUNCTION note_described, note_devices, note_violations, violations_of FROM PUBLIC;

-- A filter that is wrong: how, and from which of its characters on.
CREATE FUNCTION refuse_filter(what text, place int DEFAULT NULL) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
	RAISE EXCEPTION '%', what USING ERRCODE = 'FS4PA', DETAIL = coalesce(place::text, '');
END $$;

-- The filters as SQL, a row each. passes: the condition, of the device d, its words x and its state s; ids: the devices that pass, by an index of their
-- own, NULL where there is none; along: the same of the device w by an index that has them in the order of enrolment; or, begun
-- with unnest, such a statement of each of a few values i.v, still open for the place of a page.
-- wanted ($2): the components that are asked for, sets ($1): the inventories that have one, unless they are too many.
CREATE FUNCTION list_filters(tenant int, f jsonb, wanted bigint[], sets bytea[], OUT passes text, OUT ids text, OUT along text) RETURNS SETOF record
	LANGUAGE plpgsql STABLE AS $$
#variable_conflict use_column
BEGIN
	RETURN QUERY WITH g AS (SELECT format('w.tenant_id = %s', tenant) AS own, ARRAY(SELECT jsonb_array_elements_text(f -> 'posture')) AS postures,
		ARRAY(SELECT jsonb_array_elements_text(f -> 'lifecycle')) AS lifecycles, lower(f ->> 'q') AS q,
		ARRAY(SELECT DISTINCT posture_rank(p) FROM jsonb_array_elements_text(f -> 'posture') p) AS ranks, regexp_replace(f ->> 'label', ':', '=') AS mark, (f ->> 'changed_since')::timestamptz AS since,
		EXISTS (SELECT FROM policy p WHERE p.id = f ->> 'policy' AND p.deleted_at IS NULL AND p.slot IS NOT NULL AND (p.tenant_id IS NULL OR p.tenant_id = tenant)) AS judged)
	SELECT x.passes, coalesce(x.ids, format('SELECT w.device_id FROM device w WHERE %s AND ', own) || x.along), x.along FROM g, LATERAL (VALUES
		('q', format('strpos(x.words, %L) > 0', q), CASE WHEN length(q) > 2 THEN format('SELECT w.device_id FROM device_words w WHERE %s AND words_parts(w.tenant_id, w.words) @> %L'
			' AND w.words LIKE %L', own, words_parts(tenant, q), '%' || regexp_replace(q, '([\\%_])', '\\\1', 'g') || '%') END, NULL),
		('label', CASE WHEN strpos(f ->> 'label', ':') > 0 THEN format('d.labels @> %L', ARRAY[mark])
				ELSE format('EXISTS (SELECT FROM unnest(d.labels) l WHERE split_part(l, ''='', 1) = %L)', mark) END,
			format('SELECT w.device_id FROM device_mark w WHERE %s AND w.mark = %L', own, mark),
			format('unnest(''{1}''::int[]) i (v), LATERAL (SELECT w.device_id FROM device_mark w WHERE %s AND w.mark = %L', own, mark)),
		('components', CASE WHEN sets IS NOT NULL THEN 's.inventory_digest = ANY ($1)' ELSE format('EXISTS (SELECT FROM inventory i'
				' JOIN inventory_component ic USING (inventory_id) WHERE i.tenant_id = %s AND i.digest = s.inventory_digest AND ic.component_id = ANY ($2))', tenant) END,
			CASE WHEN sets IS NOT NULL THEN format('SELECT w.device_id FROM device_state w WHERE %s AND w.inventory_digest = ANY ($1)', own) END,
			CASE WHEN cardinality(sets) <= 32 THEN
				format('unnest($1) i (v), LATERAL (SELECT w.device_id FROM device_state w WHERE %s AND w.inventory_digest = i.v', own) END),
		('changed_since', format('(EXISTS (SELECT FROM device_history h WHERE h.device_id = d.device_id AND h.tenant_id = %1$s AND h.valid_from BETWEEN %2$L AND %3$L)'
				' OR EXISTS (SELECT FROM state_history h WHERE h.device_id = d.device_id AND h.tenant_id = %1$s AND h.valid_from BETWEEN %2$L AND %3$L))',
				tenant, since, coalesce((f ->> 'as_of')::timestamptz, 'infinity')),
			format('SELECT w.device_id FROM device_history w WHERE %1$s AND w.valid_from >= %2$L UNION ALL SELECT w.device_id FROM state_history w WHERE %1$s'
				' AND w.valid_from >= %2$L', own, since), NULL),
		('firmware', format('coalesce(d.swversion, '''') = %L', f ->> 'firmware'), NULL, format('list_key(w.swversion) COLLATE "C" = %L', f ->> 'firmware')),
		('model', format('coalesce(d.hwmodel, '''') = %L', f ->> 'model'), NULL, format('list_key(w.hwmodel) COLLATE "C" = %L', f ->> 'model')),
		('posture', format('d.posture = ANY (%L)', postures), format('SELECT w.device_id FROM device w WHERE %s AND posture_rank(w.posture) = ANY (%L)', own, ranks),
			format('unnest(%L::int[]) i (v), LATERAL (SELECT w.device_id FROM device w WHERE %s AND w.deleted_at IS NULL AND posture_rank(w.posture) = i.v', ranks, own)),
		('lifecycle', format('d.lifecycle = ANY (%L)', lifecycles), NULL,
			CASE WHEN cardinality(lifecycles) = 1 AND lifecycles[1] <> 'active' THEN format('w.lifecycle = %L AND w.lifecycle <> ''active''', lifecycles[1]) END),
		('policy', CASE WHEN judged THEN format('EXISTS (SELECT FROM device_violation v WHERE v.tenant_id = %s AND v.policy = %L AND v.device_id = d.device_id)', tenant,
				f ->> 'policy') ELSE 'false' END,
			format('SELECT w.device_id FROM device_violation w WHERE %s AND w.policy = %L AND %L', own, f ->> 'policy', judged),
			format('unnest(''{1}''::int[]) i (v), LATERAL (SELECT w.device_id FROM device_violation w WHERE %s AND w.policy = %L AND %L', own, f ->> 'policy', judged)),
		('where', format('jsonb_path_match(s.state, %L, ''{}'', true)', f ->> 'where'), NULL, NULL)) x (name, passes, ids, along)
	WHERE f ? x.name OR (x.name = 'components' AND wanted IS NOT NULL);
END $$;

-- The devices that the first of these statements finds that finds no more than `few`. NULL: none does.
CREATE FUNCTION list_few(statements text[], few int, wanted bigint[], sets bytea[]) RETURNS bigint[] LANGUAGE plpgsql STABLE AS $$
DECLARE
	one text; found bigint[];
BEGIN
	FOREACH one IN ARRAY statements LOOP
		EXECUTE format('SELECT coalesce(array_agg(DISTINCT device_id), ''{}'') FROM (SELECT device_id FROM (%s) y LIMIT %s) z', one, few + 1) INTO found USING sets, wanted;
		IF cardinality(found) <= few THEN
			RETURN found;
		END IF;
	END LOOP;
	RETURN NULL;
END $$;

-- Up to most + 1 devices, in order, of a list in the order of enrolment that one filter makes, by statements whose plans are kept: to plan one costs as much
-- as a page. NULL: they are not found so cheaply, or it is another list. sets: as of list_filters.
CREATE FUNCTION list_near(mine int, f jsonb, sets bytea[], falling boolean, behind bigint, most int) RETURNS bigint[] LANGUAGE plpgsql STABLE AS $$
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
			-- Which index is the better one depends on the tenant and the word: this is planned each time.
			found := list_few(ARRAY[format('SELECT w.device_id FROM device_words w WHERE w.tenant_id = %s AND w.words LIKE %L', mine,
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

-- Up to `most` of the signed-in tenant's devices that pass all filters, in an order, behind the one that was told last; each with its place. If more may
-- follow, the last row says where to go on and is no device (shown is false): where the search was ended by what a page may cost, fewer than `most` came
-- before it, or none. What a device shows is the caller's to read, through its own eyes.
--
-- filters: posture, lifecycle (arrays), model, firmware, label, q, policy, component with component_version, or components (ids), where, changed_since,
-- as_of. order_by: a name below, after '-' the other way round. after_key, after_id: the last one's place; began: since of the first page, which is when
-- the last one that it could see had moved in the order. What has moved later is not told any more: it was, or would be out of its turn.
--
-- It goes along the order first. What is too rare to be found so it looks up by an index of one of the filters, and puts that in order, if it is no more
-- than `few`; else it goes on, until `far` devices were looked at or its time is up.
CREATE FUNCTION device_list(filters jsonb, order_by text, most int, after_key text, after_id bigint, began timestamptz)
	RETURNS TABLE (device_id bigint, key text, shown boolean, since timestamptz) LANGUAGE plpgsql STABLE SECURITY DEFINER
	SET search_path = fleetstate, pg_catalog, pg_temp SET enable_sort = on SET enable_bitmapscan = on SET enable_seqscan = off SET enable_hashjoin = off
	SET enable_mergejoin = off SET jit = off AS $$
DECLARE
	few CONSTANT int := 20000;
	far CONSTANT int := 20000;
	patience CONSTANT interval := '500 ms';
	mine int := tenant_context();
	as_of timestamptz := (filters ->> 'as_of')::timestamptz;
	start timestamptz := clock_timestamp();
	falling boolean := order_by LIKE '-%';
	way text := CASE WHEN falling THEN 'DESC' ELSE 'ASC' END;
	back text := CASE WHEN falling THEN 'ASC' ELSE 'DESC' END;
	sign text := CASE WHEN falling THEN '<' ELSE '>' END;
	expression text; type text; moved text; source text; narrow text; whole text; by_index text[]; along text; place text; part text; stays text; bad record;
	wanted bigint[]; sets bytea[]; chosen bigint[]; searched boolean; looked_up boolean := false; chunk int; looked int := 0; told int := 0;
	ids bigint[]; keys text[]; n int; reached bigint := after_id; reached_key text := after_key;
BEGIN
	SELECT x.expression, x.type, x.moved INTO expression, type, moved FROM (VALUES
		('enrolled', NULL, NULL, NULL),
		('ueid', 'w.ueid', 'bytea', NULL),
		('serial', 'list_key(w.serial) COLLATE "C"', 'text', 'described_at'),
		('model', 'list_key(w.hwmodel) COLLATE "C"', 'text', 'described_at'),
		('firmware', 'list_key(w.swversion) COLLATE "C"', 'text', 'described_at'),
		('posture', 'posture_rank(w.posture)', 'int', 'posture_since'),
		('posture_since', 'w.posture_since', 'timestamptz', 'posture_since'),
		('first_seen', 'list_key(w.first_seen)', 'timestamptz', 'first_seen'),
		('last_seen', 'coalesce(h.last_seen, ''-infinity''::timestamptz)', 'timestamptz', 'k')) x (name, expression, type, moved)
		WHERE x.name = ltrim(order_by, '-');
	IF mine IS NULL OR NOT FOUND THEN
		RETURN;
	END IF;
	since := began;
	IF began IS NULL AND moved = 'described_at' THEN
		since := (SELECT max(d.described_at) FROM device d WHERE d.tenant_id = mine);
	ELSIF began IS NULL AND moved = 'posture_since' THEN
		since := (SELECT max(d.posture_since) FROM device d WHERE d.tenant_id = mine);
	ELSIF began IS NULL AND moved = 'first_seen' THEN
		since := (SELECT max(list_key(d.first_seen)) FROM device d WHERE d.tenant_id = mine AND list_key(d.first_seen) < 'infinity');
	END IF;
	since := greatest(since, 'epoch'::timestamptz + interval '1 us');
	IF filters ? 'where' THEN
		SELECT * INTO bad FROM predicate_fault(filters ->> 'where');
		IF bad.fault IS NOT NULL THEN
			PERFORM refuse_filter(format('where, from character %s on: %s.', bad.place, bad.fault), bad.place);
		END IF;
	END IF;
	IF as_of < (SELECT b.at FROM device_history_begin b) THEN
		RAISE EXCEPTION 'What devices were is known from % on.', (SELECT rfc3339(b.at) FROM device_history_begin b) USING ERRCODE = 'FS410';
	ELSIF as_of IS NOT NULL AND moved IS NOT NULL THEN
		PERFORM refuse_filter('sort: with as_of it is enrolled or ueid.');
	ELSIF as_of IS NOT NULL AND filters ? 'policy' THEN
		PERFORM refuse_filter('policy: what each policy said is not kept, so it does not go with as_of; the reasons of a posture are.');
	END IF;
	IF filters ?| '{component,components}' THEN
		wanted := CASE WHEN filters ? 'components' THEN (filters ->> 'components')::bigint[] ELSE ARRAY(SELECT c.component_id FROM component c
			WHERE c.tenant_id = mine AND c.name = filters ->> 'component' AND (NOT filters ? 'component_version' OR c.version = filters ->> 'component_version')) END;
		sets := ARRAY(SELECT i.digest FROM inventory i WHERE i.tenant_id = mine AND i.inventory_id IN
			(SELECT ic.inventory_id FROM inventory_component ic WHERE ic.component_id = ANY (wanted)) LIMIT 2001);
		IF cardinality(sets) = 0 THEN
			RETURN;
		END IF;
		sets := CASE WHEN cardinality(sets) <= 2000 THEN sets END;
	END IF;
	IF expression IS NULL THEN
		ids := list_near(mine, filters, sets, falling, after_id, most);
		IF ids IS NOT NULL THEN
			RETURN QUERY SELECT i.id, NULL::text, true, device_list.since FROM unnest(ids[:most]) i (id);
			IF cardinality(ids) > most THEN
				device_id := ids[most]; shown := false;
				RETURN NEXT;
			END IF;
			RETURN;
		END IF;
	END IF;
	narrow := '';
	by_index := '{}';
	IF filters - 'as_of' <> '{}' THEN
		WITH x AS MATERIALIZED (SELECT * FROM list_filters(mine, filters, wanted, sets)),
		a AS MATERIALIZED (SELECT min(x.along) AS along FROM x WHERE expression IS NULL AND as_of IS NULL)
		SELECT coalesce(string_agg(' AND ' || x.passes, ''), ''), coalesce(string_agg(' AND ' || x.passes, '') FILTER (WHERE (x.along = a.along) IS NOT TRUE), ''),
				coalesce(array_agg(x.ids) FILTER (WHERE x.ids IS NOT NULL AND as_of IS NULL), '{}'), min(a.along)
			INTO whole, narrow, by_index, along FROM x RIGHT JOIN a ON true;
	END IF;
	-- What is searched alone is read alone.
	searched := expression IS NULL AND filters ? 'q' AND filters - 'q' = '{}';
	stays := CASE WHEN moved IS NOT NULL AND began IS NOT NULL THEN format('coalesce(d.%I, ''-infinity'') <= %L', moved, began) ELSE 'true' END;
	source := CASE WHEN searched THEN 'c d JOIN device e ON e.device_id = d.device_id AND e.deleted_at IS NULL, LATERAL (SELECT d.words) x' WHEN as_of IS NULL THEN format('c d LEFT JOIN device_state s ON s.device_id = d.device_id AND s.tenant_id = %s'
			' LEFT JOIN device_words x ON x.device_id = d.device_id', mine)
		ELSE format('c w JOIN LATERAL (SELECT w.ueid, w.k, h.* FROM device_history h WHERE h.device_id = w.device_id AND h.tenant_id = %1$s AND h.valid_from <= %2$L'
				' ORDER BY h.valid_from DESC, h.history_id DESC LIMIT 1) d ON true'
			' LEFT JOIN LATERAL (SELECT h.state, h.inventory_digest FROM state_history h WHERE h.device_id = d.device_id AND h.tenant_id = %1$s'
				' AND h.valid_from <= %2$L ORDER BY h.valid_from DESC, h.epoch DESC, h.seq DESC LIMIT 1) s ON true,'
			' LATERAL (SELECT words_of(d.ueid, d.serial, d.hwmodel, d.swname, d.swversion, d.labels) AS words) x', mine, as_of) END;

	IF moved = 'k' THEN
		-- Every report moves a device in this order, so there is no index to go along.
		chosen := list_few(by_index || format('SELECT w.device_id FROM device w WHERE w.tenant_id = %s', mine), few, wanted, sets);
		IF chosen IS NULL THEN
			PERFORM refuse_filter(format('sort: by last_seen go at most %s devices. Narrow the list by posture, lifecycle, model, firmware, label, q, component or changed_since.', few));
		END IF;
		looked_up := true;
		since := coalesce(began, (SELECT max(h.last_seen) FROM unnest(chosen) i (id) JOIN device_hot h ON h.device_id = i.id), since);
	END IF;
	chunk := CASE WHEN narrow = '' THEN most + 1 ELSE greatest(most * 5 / 4, 100) END;
	LOOP
		place := CASE WHEN reached IS NULL THEN '' WHEN expression IS NULL THEN format(' AND w.device_id %s %s', sign, reached)
			ELSE format(' AND (%s, w.device_id) %s (%L::%s, %s)', expression, sign, reached_key, type, reached) END;
		part := format('SELECT w.*, %s AS k FROM %s WHERE w.tenant_id = %s%s%s ORDER BY %sw.device_id %s LIMIT %s', coalesce(expression, 'NULL::int'),
			CASE WHEN chosen IS NOT NULL THEN format('unnest(%L::bigint[]) i (id) JOIN %I w ON w.device_id = i.id%s', chosen,
					CASE WHEN searched THEN 'device_words' ELSE 'device' END,
					CASE WHEN moved = 'k' THEN ' LEFT JOIN device_hot h ON h.device_id = w.device_id' END)
				-- A few of each value, by its index.
				WHEN along LIKE 'unnest%' THEN format('(SELECT s.device_id FROM %1$s%2$s ORDER BY w.device_id %3$s LIMIT %4$s) s'
					' ORDER BY s.device_id %3$s LIMIT %4$s) s JOIN device w ON w.device_id = s.device_id', along, place, way, chunk)
				WHEN searched THEN 'device_words w' ELSE 'device w' END,
			mine, CASE WHEN searched THEN '' ELSE ' AND w.deleted_at IS NULL' END, CASE WHEN chosen IS NULL AND along NOT LIKE 'unnest%' THEN ' AND ' || along ELSE '' END || place,
			coalesce(expression || ' ' || way || ', ', ''), way, chunk);
		IF narrow = '' AND chosen IS NULL AND as_of IS NULL THEN
			-- All of them pass: no more are looked at than may be told, and one.
			EXECUTE format('SELECT array_agg(device_id ORDER BY n) FILTER (WHERE stays), array_agg(k::text ORDER BY n) FILTER (WHERE stays), count(*),'
				' (array_agg(device_id ORDER BY n))[count(*)], (array_agg(k::text ORDER BY n))[count(*)]'
				' FROM (SELECT device_id, k, row_number() OVER () AS n, %s AS stays FROM (%s) d) c', stays, part) INTO ids, keys, n, reached, reached_key USING sets, wanted;
		ELSE
			EXECUTE format('WITH c AS MATERIALIZED (%1$s), f AS MATERIALIZED (SELECT d.device_id, d.k FROM %2$s WHERE %7$s%3$s'
				' ORDER BY d.k %4$s, d.device_id %4$s LIMIT %5$s) SELECT (SELECT array_agg(device_id ORDER BY k %4$s, device_id %4$s) FROM f),'
				' (SELECT array_agg(k::text ORDER BY k %4$s, device_id %4$s) FROM f), (SELECT count(*) FROM c), l.device_id, l.k::text'
				' FROM (VALUES (1)) o LEFT JOIN (SELECT device_id, k FROM c ORDER BY k %6$s, device_id %6$s LIMIT 1) l ON true',
				part, source, CASE WHEN chosen IS NULL THEN narrow ELSE whole END, way, most - told + 1, back, stays) INTO ids, keys, n, reached, reached_key USING sets, wanted;
		END IF;
		FOR i IN 1 .. coalesce(cardinality(ids), 0) LOOP
			IF told = most THEN
				shown := false;
				RETURN NEXT;
				RETURN;
			END IF;
			device_id := ids[i]; key := keys[i]; shown := true; told := told + 1;
			RETURN NEXT;
		END LOOP;
		IF n < chunk THEN
			RETURN;
		END IF;
		looked := looked + n;
		IF told = most OR looked >= far OR clock_timestamp() > start + patience THEN
			device_id := reached; key := reached_key; shown := false;
			RETURN NEXT;
			RETURN;
		END IF;
		chunk := least(chunk * CASE WHEN clock_timestamp() < start + patience / 8 THEN 4 ELSE 1 END, far - looked);
		CONTINUE WHEN looked_up OR told::bigint * far / looked >= 2 * most;
		looked_up := true;
		chosen := list_few(by_index, few, wanted, sets);
		IF chosen IS NOT NULL AND NOT filters ? 'where' THEN
			chunk := few + 1;
		END IF;
	END LOOP;
END $$;
REVOKE ALL ON FUNCTION device_list, list_filters, list_near, list_few, refuse_filter FROM PUBLIC;
GRANT EXECUTE ON FUNCTION device_list TO fleetstate_api;
