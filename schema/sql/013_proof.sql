-- Inclusion proofs: why a signed checkpoint covers a report (proof.cddl). A leaf speaks for the highest report with sections too, whose chain outlives
-- the quiet ones; and of each full subtree of leaves the root is kept, so that a way to the root costs as much in a fleet of a million as in a small one.
SET search_path = fleetstate, pg_catalog;

-- Leaves are kept of the last 31, and of every thirtieth before.
ALTER TABLE checkpoint ADD next_due timestamptz;	-- about, when the one after it
ALTER TABLE checkpoint_leaf ADD sections_head bytea;	-- NULL: of before, or there is none
CREATE INDEX checkpoint_leaf_device ON checkpoint_leaf (device_id, number);
CREATE TABLE checkpoint_node (
	number bigint NOT NULL,
	place bigint NOT NULL,		-- leaves from place * checkpoint_fan() on
	hash bytea NOT NULL,
	PRIMARY KEY (number, place)
);
ALTER TABLE checkpoint_node ENABLE ROW LEVEL SECURITY;
ALTER TABLE checkpoint_node FORCE ROW LEVEL SECURITY;
CREATE POLICY owner ON checkpoint_node TO fleetstate_owner USING (true);
CREATE POLICY ingest ON checkpoint_node TO fleetstate_ingest USING (true);
GRANT SELECT, INSERT, DELETE ON checkpoint_node TO fleetstate_ingest;

CREATE FUNCTION checkpoint_fan() RETURNS int LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$ SELECT 1024 $$;	-- a power of two, as checkpoint.h has it
-- RFC 9162 2.1.1, over checkpoint.cddl's leaf.
CREATE FUNCTION leaf_hash(l checkpoint_leaf) RETURNS bytea LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
	SELECT sha256('\x00'::bytea || l.ueid || int8send(l.epoch) || int8send(l.seq) || l.head || coalesce(l.sections_head, ''))
$$;

-- A report of the tenant that is signed in, and the first checkpoint of those kept, and made since there are nodes, whose leaf is not before it. No row: there is no such report; no
-- number: nothing covers it, `ended` if nothing ever will.
CREATE FUNCTION proof_cover(digest bytea, OUT device_id bigint, OUT epoch bigint, OUT seq bigint, OUT sections int, OUT message bytea, OUT number bigint,
	OUT place bigint, OUT top bigint, OUT skips boolean, OUT ended boolean) RETURNS SETOF record
	LANGUAGE plpgsql STABLE ROWS 1 SECURITY DEFINER SET search_path = fleetstate, pg_catalog, pg_temp SET enable_seqscan = off AS $$
#variable_conflict use_column
BEGIN
	RETURN QUERY
	SELECT r.device_id, r.epoch, r.seq, r.sections, r.message, l.number, l.place, l.seq, l.sections_head IS NOT NULL,
		NOT EXISTS (SELECT FROM device_hot h WHERE h.device_id = r.device_id AND h.tenant_id = r.tenant_id AND h.epoch = r.epoch AND h.hi >= r.seq)
	FROM report r LEFT JOIN LATERAL (SELECT * FROM checkpoint_leaf c WHERE c.device_id = r.device_id AND c.tenant_id = r.tenant_id
		AND c.epoch = r.epoch AND c.seq >= r.seq AND EXISTS (SELECT FROM checkpoint_node n WHERE n.number = c.number) ORDER BY c.number LIMIT 1) l ON true
	WHERE r.sha256 = digest AND r.tenant_id = tenant_context() LIMIT 1;
END $$;
-- What its proof is made of, but for the chain. Of others' leaves there are only hashes, which tell nothing.
CREATE FUNCTION proof_parts(digest bytea) RETURNS TABLE (message bytea, covered boolean, ended boolean, due_s bigint, checkpoint bytea, ueid bytea,
	epoch bigint, seq bigint, head bytea, sections_head bytea, place bigint, leaves bytea, nodes bytea)
	LANGUAGE plpgsql STABLE ROWS 1 SECURITY DEFINER SET search_path = fleetstate, pg_catalog, pg_temp
	SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off AS $$
#variable_conflict use_column
BEGIN
	RETURN QUERY
	SELECT c.message, c.number IS NOT NULL, c.ended,
		greatest(0, ceil(extract(epoch FROM coalesce((SELECT k.next_due FROM checkpoint k ORDER BY k.number DESC LIMIT 1), now()) - now())))::bigint,
		k.message, l.ueid, l.epoch, l.seq, l.head, l.sections_head, l.place,
		(SELECT string_agg(leaf_hash(o), '' ORDER BY o.place) FROM checkpoint_leaf o WHERE o.number = c.number
			AND o.place >= c.place / checkpoint_fan() * checkpoint_fan() AND o.place < (c.place / checkpoint_fan() + 1) * checkpoint_fan()),
		(SELECT string_agg(n.hash, '' ORDER BY n.place) FROM checkpoint_node n WHERE n.number = c.number)
	FROM proof_cover(digest) c LEFT JOIN checkpoint k ON k.number = c.number LEFT JOIN checkpoint_leaf l ON l.number = c.number AND l.place = c.place;
END $$;
-- The reports between it and the leaf: those with sections, which name each other, and before the first of them the quiet ones too (all of them, if the
-- leaf does not speak for those with sections). No more than so many bytes and rows, and one.
CREATE FUNCTION proof_chain(digest bytea, most_bytes bigint, most_rows bigint) RETURNS TABLE (message bytea)
	LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = fleetstate, pg_catalog, pg_temp
	SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off AS $$
#variable_conflict use_column
BEGIN
	RETURN QUERY
	WITH c AS MATERIALIZED (SELECT * FROM proof_cover(digest) WHERE number IS NOT NULL),
	f AS MATERIALIZED (SELECT r.seq, r.message FROM c, report_full r WHERE r.device_id = c.device_id AND r.epoch = c.epoch AND r.seq > c.seq AND r.seq <= c.top
		AND r.flags & 2 = 0 AND r.tenant_id = tenant_context() ORDER BY r.seq LIMIT most_rows),
	q AS (SELECT r.seq, r.message FROM c, report_quiet r WHERE (c.sections = 0 OR NOT c.skips) AND r.device_id = c.device_id AND r.epoch = c.epoch AND r.seq > c.seq
		AND r.seq <= c.top AND (NOT c.skips OR r.seq < coalesce((SELECT min(f.seq) FROM f), c.top + 1)) AND r.flags & 2 = 0 AND r.tenant_id = tenant_context()
		ORDER BY r.seq LIMIT most_rows)
	SELECT x.message FROM (SELECT a.seq, a.message, sum(octet_length(a.message)) OVER (ORDER BY a.seq) - octet_length(a.message) AS before
		FROM (SELECT * FROM q UNION ALL SELECT * FROM f) a) x WHERE x.before <= most_bytes ORDER BY x.seq LIMIT most_rows;
END $$;
REVOKE ALL ON FUNCTION proof_cover, proof_parts, proof_chain FROM PUBLIC;
GRANT EXECUTE ON FUNCTION proof_parts, proof_chain TO fleetstate_api;
