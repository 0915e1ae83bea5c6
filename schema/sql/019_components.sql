-- Components by what they are asked for.
CREATE INDEX component_tenant ON component (tenant_id, component_id);
CREATE INDEX component_purl ON component USING hash (purl);	-- up to 1,024 bytes: too long for another kind
