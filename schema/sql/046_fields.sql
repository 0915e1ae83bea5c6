-- As before, but that two fields are looked through at once for a text that none of a block's devices has: a page takes more than one of them.
DO $do$
DECLARE
	search CONSTANT text := pg_get_functiondef('search_blocks'::regproc);
	one CONSTANT text := 'n := greatest((most + 1 - cardinality(found)) * looked * 5 / 4 / greatest(cardinality(found), 1) + 1, looked);';
BEGIN
	IF strpos(search, one) = 0 THEN
		RAISE EXCEPTION 'search_blocks is not as it was';
	END IF;
	EXECUTE replace(search, one, one || $$
		n_fields := CASE WHEN found = '{}' THEN 2 ELSE 1 END;$$);
END $do$;
