-- Manifests of exports: the collector's signed word on what it gave out, found by the digest of those bytes.

CREATE TABLE export_manifest (
	tenant_id int NOT NULL REFERENCES tenant,
	sha256 bytea NOT NULL CHECK (length(sha256) = 32),
	made_at timestamptz NOT NULL DEFAULT clock_timestamp(),
	message bytea NOT NULL,
	PRIMARY KEY (tenant_id, sha256)
);
CREATE INDEX export_manifest_age ON export_manifest (tenant_id, made_at);
ALTER TABLE export_manifest ENABLE ROW LEVEL SECURITY;
ALTER TABLE export_manifest FORCE ROW LEVEL SECURITY;
CREATE POLICY owner ON export_manifest TO fleetstate_owner USING (true);
CREATE POLICY tenant ON export_manifest FOR SELECT TO fleetstate_api USING (tenant_id = (SELECT tenant_context()));
GRANT SELECT ON export_manifest TO fleetstate_api;

-- The last thousand of a tenant are kept: whoever wants one asks for it with the export. The same bytes again (a list of changes that is empty, say) are the
-- newest word on them.
CREATE FUNCTION keep_manifest(digest bytea, message bytea) RETURNS void LANGUAGE sql SECURITY DEFINER SET search_path = fleetstate, pg_catalog, pg_temp AS $$
	INSERT INTO export_manifest (tenant_id, sha256, message) VALUES (tenant_context(), digest, message)
		ON CONFLICT (tenant_id, sha256) DO UPDATE SET made_at = EXCLUDED.made_at, message = EXCLUDED.message;
	DELETE FROM export_manifest WHERE tenant_id = (SELECT tenant_context())
		AND made_at < (SELECT made_at FROM export_manifest WHERE tenant_id = (SELECT tenant_context()) ORDER BY made_at DESC OFFSET 999 LIMIT 1);
$$;
REVOKE ALL ON FUNCTION keep_manifest FROM PUBLIC;
GRANT EXECUTE ON FUNCTION keep_manifest TO fleetstate_api;
