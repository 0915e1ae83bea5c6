-- A search by text costs a page, whether many devices match, some, or none.

-- What was deleted is not searched.
CREATE FUNCTION note_searched() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = fleetstate, pg_catalog, pg_temp AS $$
BEGIN
	IF NEW.deleted_at IS NOT NULL THEN
		DELETE FROM device_words x WHERE x.device_id = NEW.device_id;
	ELSE
		INSERT INTO device_words SELECT NEW.device_id, NEW.tenant_id, words_of(NEW.ueid, NEW.serial, NEW.hwmodel, NEW.swname, NEW.swversion, NEW.labels);
	END IF;
	RETURN NULL;
END $$;
REVOKE ALL ON FUNCTION note_searched FROM PUBLIC;
CREATE TRIGGER device_searched AFTER UPDATE OF deleted_at ON device FOR EACH ROW WHEN ((OLD.deleted_at IS NULL) <> (NEW.deleted_at IS NULL)) EXECUTE FUNCTION note_searched();
DELETE FROM device_words x USING device d WHERE d.device_id = x.device_id AND d.deleted_at IS NOT NULL;

-- Which devices have three letters stands by blocks of 1,024 devices, so that a page of what many have is found block by block, from its place on: no more of them
-- are asked for than it takes. Each three letters, with the tenant, and with the block.
CREATE FUNCTION words_blocks(tenant int, device bigint, words text) RETURNS text[] LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
	SELECT ARRAY(SELECT DISTINCT tenant || ':' || (device >> 10) || ':' || a || b || c FROM (SELECT a, lead(a) OVER w AS b, lead(a, 2) OVER w AS c
		FROM string_to_table(words, NULL) WITH ORDINALITY letter (a, i) WINDOW w AS (ORDER BY i)) x WHERE c IS NOT NULL)
$$;
-- Nothing is left to be sorted in later: each block's look would read it.
CREATE INDEX device_words_blocks ON device_words USING gin (words_blocks(tenant_id, device_id, words)) WITH (fastupdate = off);

-- What few devices have is found in many blocks at once, by four letters: of a million, which have a random serial number and name each, ten thousand have three hex
-- digits in common, but five hundred four of them. Each four letters, with the tenant, and with the field of 262,144 devices.
CREATE FUNCTION words_fours(tenant int, device bigint, words text) RETURNS text[] LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
	SELECT ARRAY(SELECT DISTINCT tenant || ':' || (device >> 18) || ':' || a || b || c || d FROM (SELECT a, lead(a) OVER w AS b, lead(a, 2) OVER w AS c, lead(a, 3) OVER w AS d
		FROM string_to_table(words, NULL) WITH ORDINALITY letter (a, i) WINDOW w AS (ORDER BY i)) x WHERE d IS NOT NULL)
$$;
CREATE INDEX device_words_fours ON device_words USING gin (words_fours(tenant_id, device_id, words)) WITH (gin_pending_list_limit = 64);

-- The devices behind a place, in order, and their words: part of the statement that names it.
CREATE FUNCTION search_next(mine int, falling boolean, place bigint, most int) RETURNS TABLE (device_id bigint, words text) LANGUAGE sql STABLE AS $$
	(SELECT w.device_id, w.words FROM device_words w WHERE NOT falling AND w.tenant_id = mine AND w.device_id > place ORDER BY w.device_id LIMIT most)
	UNION ALL (SELECT w.device_id, w.words FROM device_words w WHERE falling AND w.tenant_id = mine AND w.device_id < place ORDER BY w.device_id DESC LIMIT most)
$$;
-- Of long words a part will do. How long they are is known sooner in bytes.
CREATE FUNCTION search_head(words text) RETURNS text LANGUAGE sql IMMUTABLE AS $$ SELECT CASE WHEN octet_length(words) <= 1024 THEN words ELSE left(words, 1024) END $$;
-- What a text has in common with few of the devices whose words are seen: four letters of it, or the three that it has, up to two times, that few have, or better
-- none. Those that share no letter leave the least to look through, and ends tell devices apart more than beginnings. NULL: there are none. Of long texts, on
-- either side, a part will do.
CREATE FUNCTION search_parts(seen text, q text) RETURNS text[] LANGUAGE plpgsql IMMUTABLE STRICT AS $$
DECLARE
	few CONSTANT int := 4;
	letters CONSTANT int := least(length(q), 4);
	part text; of_none text[] := '{}'; of_few text[] := '{}';
BEGIN
	IF length(q) < 3 THEN
		RETURN NULL;
	END IF;
	<<look>>
	FOR shift IN 0..CASE WHEN length(q) > 2 * letters THEN 0 ELSE letters - 1 END LOOP
		FOR i IN shift..length(q) - letters BY letters LOOP
			part := substr(q, length(q) - i - letters + 1, letters);
			IF strpos(seen, part) = 0 THEN
				of_none := of_none || part;
			ELSIF of_none = '{}' AND octet_length(replace(seen, part, part || '.')) - octet_length(seen) <= few THEN
				of_few := of_few || part;
			END IF;
			EXIT look WHEN cardinality(of_none) = 2;
		END LOOP;
	END LOOP;
	RETURN nullif((of_none || of_few)[:2], '{}');
END $$;
-- The devices behind the place, which is among them, next to them, or 0, whose words have all of the text, by parts of it: all, or the first `most` + 1 and some
-- more, in no order. NULL: it took too long. The parts say whose they are: if the planner were told, it would rather go through all that the tenant has.
-- Its plans are kept, whoever has them made first, so that it has settings of its own.
CREATE FUNCTION search_blocks(mine int, q text, parts text[], falling boolean, place bigint, most int, patience interval) RETURNS bigint[] LANGUAGE plpgsql STABLE
	SET enable_bitmapscan = on SET enable_seqscan = off SET enable_sort = off AS $$
DECLARE
	block CONSTANT int := 1024;
	field CONSTANT int := 256;	-- blocks
	near CONSTANT int := 64;	-- blocks; where a page takes more, all of a field that have it are found sooner
	few CONSTANT int := greatest(5000, most);
	stop CONSTANT timestamptz := clock_timestamp() + patience;
	pattern text := '%' || regexp_replace(q, '([\\%_])', '\\\1', 'g') || '%';
	a text := ':' || right(parts[1], 3); b text := ':' || right(coalesce(parts[2], parts[1]), 3);
	c text := ':' || parts[1]; d text := ':' || coalesce(parts[2], parts[1]);
	few_have boolean := length(parts[1]) = 4;
	low bigint := place / block; high bigint := place / block; n bigint := 1; looked bigint := 0; found bigint[] := '{}'; piece bigint[];
	n_fields bigint := 1; n_seen bigint; seen bigint := 0; at bigint;
BEGIN
	WHILE low <= high LOOP
		n := least(n, 8 * looked + 1, 4096, high - low + 1);
		-- From block to block. So many more than a block has are enough, and where that ends the last block may be left in its middle: what comes first is whole.
		found := found || ARRAY(SELECT x.device_id FROM (SELECT i FROM generate_series(CASE WHEN falling THEN high ELSE low END,
				CASE WHEN falling THEN high - n + 1 ELSE low + n - 1 END, CASE WHEN falling THEN -1 ELSE 1 END) i WHERE clock_timestamp() < stop OFFSET 0) y,
			LATERAL (SELECT w.device_id FROM device_words w WHERE words_blocks(w.tenant_id, w.device_id, w.words) @> ARRAY[mine || ':' || i || a,
				mine || ':' || i || b] AND w.words LIKE pattern AND CASE WHEN falling THEN w.device_id < place ELSE w.device_id > place END OFFSET 0) x LIMIT most + block + 1);
		IF cardinality(found) > most THEN
			RETURN found;
		END IF;
		IF clock_timestamp() >= stop THEN
			RETURN NULL;
		END IF;
		-- The other end is asked for when it is known that one block is not enough.
		IF falling THEN
			low := CASE WHEN looked > 0 THEN low ELSE (SELECT w.device_id FROM device_words w WHERE w.tenant_id = mine ORDER BY w.device_id LIMIT 1) / block END;
			high := high - n;
		ELSE
			high := CASE WHEN looked > 0 THEN high ELSE (SELECT w.device_id FROM device_words w WHERE w.tenant_id = mine ORDER BY w.device_id DESC LIMIT 1) / block END;
			low := low + n;
		END IF;
		looked := looked + n;
		n := greatest((most + 1 - cardinality(found)) * looked * 5 / 4 / greatest(cardinality(found), 1) + 1, looked);
		-- From field to field, unless many of one have the parts after all.
		WHILE few_have AND n > near AND low <= high LOOP
			at := CASE WHEN falling THEN high ELSE low END / field;
			n_fields := least(n_fields, high / field - low / field + 1);
			SELECT array_agg(x.device_id) FILTER (WHERE x.words LIKE pattern), count(*) INTO piece, n_seen FROM (SELECT w.device_id, w.words
				FROM (SELECT i FROM generate_series(CASE WHEN falling THEN at - n_fields + 1 ELSE at END, CASE WHEN falling THEN at ELSE at + n_fields - 1 END) i
					WHERE clock_timestamp() < stop OFFSET 0) y,
				LATERAL (SELECT w.device_id, w.words FROM device_words w WHERE words_fours(w.tenant_id, w.device_id, w.words) @> ARRAY[mine || ':' || i || c, mine || ':' || i || d]
					AND w.device_id / block BETWEEN low AND high AND CASE WHEN falling THEN w.device_id < place ELSE w.device_id > place END OFFSET 0) w
				LIMIT few + 1) x;
			IF clock_timestamp() >= stop THEN
				RETURN NULL;
			END IF;
			IF n_seen > few THEN
				few_have := n_fields > 1;
				n_fields := 1;
				CONTINUE;
			END IF;
			found := found || piece;
			IF cardinality(found) > most THEN
				RETURN found;
			END IF;
			IF falling THEN
				high := (at - n_fields + 1) * field - 1;
			ELSE
				low := (at + n_fields) * field;
			END IF;
			looked := looked + n_fields * field;
			seen := seen + n_seen;
			-- As many as it takes by what was found so far, but not so many that they have too many together.
			n_fields := least((most + 1 - cardinality(found)) * looked * 5 / 4 / greatest(cardinality(found), 1), few * looked / greatest(2 * seen, 1), 8 * looked) / field + 1;
		END LOOP;
	END LOOP;
	RETURN found;
END $$;
-- The same, whatever the text is, and when there are more than `most` not many more. NULL: it is not told so cheaply.
CREATE FUNCTION search_near(mine int, q text, falling boolean, place bigint, most int) RETURNS bigint[] LANGUAGE plpgsql STABLE AS $$
DECLARE
	next CONSTANT int := 48;
	far CONSTANT int := 30000;	-- which are read in the order they lie in
	patience CONSTANT interval := '50 ms';
	start CONSTANT timestamptz := clock_timestamp();
	part int := 8 * most; looked int := 0; reached bigint := place; found bigint[] := '{}';
	n int; hits bigint[]; seen text; parts text[];
BEGIN
	LOOP
		-- The next ones tell whether many have it, and what few have of it.
		SELECT count(*), coalesce(array_agg(x.device_id) FILTER (WHERE strpos(x.words, q) > 0), '{}'), string_agg(search_head(x.words), E'\n\n'),
			CASE WHEN falling THEN min(x.device_id) ELSE max(x.device_id) END INTO n, hits, seen, reached FROM search_next(mine, falling, reached, next) x;
		found := found || hits;
		EXIT WHEN n < next OR cardinality(found) > most;
		parts := CASE WHEN cardinality(hits) < next / 12 THEN search_parts(seen, q) END;
		IF parts IS NOT NULL THEN
			hits := search_blocks(mine, q, parts, falling, reached, most - cardinality(found), 4 * patience);
			RETURN CASE WHEN hits IS NOT NULL THEN found || hits END;
		END IF;
		-- What many have is seen as soon in one device after the other, unless that takes too many by what was found so far, or one takes long to look at.
		found := found || ARRAY(SELECT x.device_id FROM search_next(mine, falling, reached, part) x WHERE strpos(x.words, q) > 0 LIMIT most + 1 - cardinality(found));
		EXIT WHEN cardinality(found) > most;
		reached := (SELECT x.device_id FROM search_next(mine, falling, reached, part) x OFFSET part - 1 LIMIT 1);
		EXIT WHEN reached IS NULL;	-- there are no more
		looked := looked + next + part;
		IF clock_timestamp() > start + patience OR (most + 1 - cardinality(found)) * looked::bigint / greatest(cardinality(found), 1) > far - looked THEN
			RETURN NULL;
		END IF;
		part := least(4 * looked, far - looked);
	END LOOP;
	RETURN found;
END $$;
-- The same of who is signed in.
CREATE FUNCTION device_search(q text, falling boolean, place bigint, most int) RETURNS bigint[] LANGUAGE plpgsql STABLE SECURITY DEFINER
	SET search_path = fleetstate, pg_catalog, pg_temp AS $$
BEGIN
	RETURN search_near(tenant_context(), lower(q), falling, place, most);
END $$;
REVOKE ALL ON FUNCTION search_next, search_head, search_parts, search_blocks, search_near, device_search FROM PUBLIC;
GRANT EXECUTE ON FUNCTION device_search TO fleetstate_api;

-- As before, but for what q asks.
CREATE OR REPLACE FUNCTION list_near(mine int, f jsonb, sets bytea[], falling boolean, behind bigint, most int) RETURNS bigint[] LANGUAGE plpgsql STABLE AS $$
DECLARE
	few CONSTANT int := 500;	-- by an index that has them in no order
	far CONSTANT int := 4000;	-- one by one
	patience CONSTANT interval := '50 ms';
	start timestamptz := clock_timestamp();
	name text := array_to_string(ARRAY(SELECT jsonb_object_keys(f - 'component_version')), ' ');
	place bigint := coalesce(behind, CASE WHEN falling THEN 9223372036854775807 ELSE 0 END);
	path jsonpath := CASE WHEN name = 'where' THEN f ->> 'where' END;
	since timestamptz := coalesce(f ->> 'changed_since', f ->> 'as_of')::timestamptz;
	part int := most * 9 / 8 + 2; looked int := 0;
	reached bigint := place; found bigint[] := '{}'; whole boolean := false; piece bigint[];
BEGIN
	IF name = 'q' THEN
		found := search_near(mine, lower(f ->> 'q'), falling, place, most);
		whole := found IS NOT NULL;
	ELSIF name = 'changed_since' THEN
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
	ELSIF name IN ('where', 'as_of') OR (name IN ('component', 'components') AND sets IS NOT NULL) THEN
		-- As far as it takes by what was found so far, unless that is too far, or one takes long to look at.
		WHILE NOT whole AND cardinality(found) <= most AND part <= far - looked AND clock_timestamp() < start + patience LOOP
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
	IF name = 'changed_since' THEN
		found := ARRAY(SELECT d.device_id FROM unnest(found) i (id), LATERAL (SELECT * FROM device d WHERE d.device_id = i.id OFFSET 0) d WHERE d.deleted_at IS NULL);
	END IF;
	found := ARRAY(SELECT DISTINCT ON (x.key) x.id FROM (SELECT i.id, CASE WHEN falling THEN -i.id ELSE i.id END AS key FROM unnest(found) i (id)
		WHERE CASE WHEN falling THEN i.id < place ELSE i.id > place END) x ORDER BY x.key LIMIT most + 1);
	RETURN CASE WHEN whole OR cardinality(found) > most THEN found END;
END $$;
CREATE OR REPLACE FUNCTION list_filters(tenant int, f jsonb, wanted bigint[], sets bytea[], OUT passes text, OUT ids text, OUT along text) RETURNS SETOF record
	LANGUAGE plpgsql STABLE AS $$
#variable_conflict use_column
BEGIN
	RETURN QUERY WITH g AS (SELECT format('w.tenant_id = %s', tenant) AS own, ARRAY(SELECT jsonb_array_elements_text(f -> 'posture')) AS postures,
		ARRAY(SELECT jsonb_array_elements_text(f -> 'lifecycle')) AS lifecycles, lower(f ->> 'q') AS q,
		ARRAY(SELECT DISTINCT posture_rank(p) FROM jsonb_array_elements_text(f -> 'posture') p) AS ranks, regexp_replace(f ->> 'label', ':', '=') AS mark, (f ->> 'changed_since')::timestamptz AS since,
		EXISTS (SELECT FROM policy p WHERE p.id = f ->> 'policy' AND p.deleted_at IS NULL AND p.slot IS NOT NULL AND (p.tenant_id IS NULL OR p.tenant_id = tenant)) AS judged,
		CASE WHEN f ? 'q' THEN coalesce(search_parts((SELECT string_agg(search_head(x.words), E'\n\n') FROM search_next(tenant, false, 0, 48) x), lower(f ->> 'q')),
			search_parts('', lower(f ->> 'q'))) END AS parts)
	SELECT x.passes, coalesce(x.ids, format('SELECT w.device_id FROM device w WHERE %s AND ', own) || x.along), x.along FROM g, LATERAL (VALUES
		-- What the first devices have in common few others may have. What is not known in time are too many.
		('q', format('strpos(x.words, %L) > 0', q), CASE WHEN parts IS NOT NULL THEN format('SELECT w.device_id FROM unnest(coalesce(search_blocks(%s, %L, %L, false,'
			' 0, 20000, ''1 s''), ARRAY(SELECT generate_series(0, 20000)))) w (device_id)', tenant, q, parts) END, NULL),
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

-- As before, but that a list which is gone along one after the other looks at as many more as it takes by what was found so far.
DO $do$
DECLARE
	list CONSTANT text := pg_get_functiondef('device_list'::regproc);
	more CONSTANT text := 'chunk := least(chunk * CASE WHEN clock_timestamp() < start + patience / 8 THEN 4 ELSE 1 END, ';
BEGIN
	IF strpos(list, more) = 0 THEN
		RAISE EXCEPTION 'device_list is not as it was';
	END IF;
	EXECUTE replace(list, more, more || 'greatest((most + 1 - told) * looked::bigint * 5 / 4 / greatest(told, 1), 100), ');
END $do$;

-- A collector of before that runs meanwhile is told that it can't be told so, and searches otherwise.
CREATE OR REPLACE FUNCTION device_rare(q text, falling boolean, place bigint, most int) RETURNS SETOF bigint LANGUAGE sql STABLE AS $$ SELECT NULL::bigint $$;
DROP FUNCTION list_rare, rare_parts;
-- Last, as nobody reads what it is of until this is done; and alone, as whoever waits for it may have another table.
DROP INDEX device_words_parts;
DROP FUNCTION words_parts;
