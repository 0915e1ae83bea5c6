-- A million devices as a fleet has them: few models and firmwares have most of them, few devices are in trouble, serial numbers are in no order.
-- The triggers' work is done here.
INSERT INTO device (tenant_id, ueid, lifecycle, posture, reasons, posture_since, first_seen, serial, hwmodel, swname, swversion, labels)
SELECT (SELECT tenant_id FROM tenant WHERE id = 'acme'), '\x01'::bytea || substr(sha256(i::text::bytea), 1, 16),
	CASE WHEN i % 100 = 7 THEN 'retired' WHEN i % 20000 = 9 THEN 'pending' ELSE 'active' END,
	CASE WHEN i % 1000 = 1 THEN 'untrusted' WHEN i % 100 = 2 THEN 'silent' WHEN i % 50 = 3 THEN 'degraded' WHEN i % 200 = 4 THEN 'unknown' ELSE 'operational' END,
	CASE WHEN i % 50 = 3 THEN '{secure-boot-off}'::text[] ELSE '{}' END, '2026-01-01T00:00:00Z'::timestamptz + (i * 7919 % 1000000) * interval '10 s',
	'2025-01-01T00:00:00Z'::timestamptz + i * interval '20 s', 'SN-' || upper(substr(encode(sha256(('s' || i)::bytea), 'hex'), 1, 10)),
	'model-' || floor(40 * (i * 7919 % 1000000 / 1e6) ^ 3), 'os', '2.' || floor(25 * (i * 104729 % 1000000 / 1e6) ^ 2),
	CASE WHEN i % 10 = 5 THEN ARRAY['site=s' || i % 997] ELSE '{}' END
FROM generate_series(1, {devices}::bigint) i;
INSERT INTO device_verdict (device_id, tenant_id, outcomes) SELECT d.device_id, d.tenant_id, repeat('0', p.slot - 1) || CASE d.posture WHEN 'silent' THEN '1' ELSE '0' END || '0000000'
	FROM device d, policy p WHERE p.id = 'silent';
INSERT INTO device_hot (device_id, tenant_id, epoch, hi, last_seen, interval_s, state_digest, inventory_digest)
	SELECT device_id, tenant_id, 1, 9, now() - (device_id % 300) * interval '1 s', 300, sha256('s'), sha256(('i' || device_id % 200)::bytea) FROM device;
INSERT INTO inventory (tenant_id, digest, components) SELECT tenant_id, sha256(('i' || i)::bytea), 300 FROM tenant, generate_series(0, 199) i WHERE id = 'acme';
INSERT INTO component (tenant_id, digest, type, name, version, architecture) SELECT tenant_id, sha256(('c' || n || '.' || v)::bytea), 'dpkg', 'package-' || n, '1.' || v || '-1', 'arm64'
	FROM tenant, generate_series(0, 299) n, generate_series(0, 19) v WHERE id = 'acme';
INSERT INTO inventory_component SELECT i.inventory_id, c.component_id, i.tenant_id FROM generate_series(0, 199) n JOIN inventory i ON i.digest = sha256(('i' || n)::bytea),
	generate_series(0, 299) p JOIN LATERAL (SELECT component_id FROM component c WHERE c.digest = sha256(('c' || p || '.' || (n + p) % 20)::bytea)) c ON true;
INSERT INTO device_state SELECT device_id, tenant_id, 1, 9, now(), now(), sha256('s'), sha256(('i' || device_id % 200)::bytea),
	jsonb_build_object('boot', jsonb_build_object('secure', posture <> 'degraded'), 'clock', jsonb_build_object('offset_s', device_id % 5000)) FROM device;
INSERT INTO device_words SELECT device_id, tenant_id, words_of(ueid, serial, hwmodel, swname, swversion, labels) FROM device;
INSERT INTO device_mark SELECT d.tenant_id, m, d.device_id FROM device d, marks_of(d.labels) m;
INSERT INTO device_history (valid_from, device_id, tenant_id, lifecycle, posture, reasons, posture_since, first_seen, serial, hwmodel, swname, swversion, unknowns, labels)
	SELECT posture_since, device_id, tenant_id, lifecycle, posture, reasons, posture_since, first_seen, serial, hwmodel, swname, swversion, unknowns, labels FROM device;
INSERT INTO state_history SELECT device_id, first_seen, 1, 1, tenant_id, first_seen, state_digest, inventory_digest, state FROM device JOIN device_state USING (device_id, tenant_id);
INSERT INTO fleet_tally SELECT d.tenant_id, t.kind, d.lifecycle, t.value, count(*) FROM device d, tallies_of(d.lifecycle, d.posture, d.hwmodel, d.swversion) t GROUP BY 1, 2, 3, 4;
