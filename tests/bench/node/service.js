/* What a team would write in an afternoon: a device, a page of devices and all of them as CSV, from the same tables. node service.js URI PORT */
"use strict";
const fastify = require("fastify")();
const { Pool } = require("pg");
const QueryStream = require("pg-query-stream");
const { createHash } = require("crypto");
const { Transform } = require("stream");

const pool = new Pool({ connectionString: process.argv[2], max: 4 });
const columns = `encode(d.ueid, 'hex') AS ueid, t.id AS tenant, d.serial, d.vendor, d.hwmodel, d.hwversion, d.oemid, d.swname, d.swversion, d.kernel,
  d.lifecycle, d.posture, d.reasons, d.posture_since, d.first_seen, h.last_seen, encode(int8send(h.epoch), 'hex') AS epoch, h.hi AS seq, h.interval_s,
  d.support_until, d.end_of_life, encode(s.state_digest, 'hex') AS state_digest, encode(s.inventory_digest, 'hex') AS inventory_digest, d.unknowns, d.labels`;
const tables = `fleetstate.device d JOIN fleetstate.tenant t ON t.tenant_id = d.tenant_id
  LEFT JOIN fleetstate.device_hot h ON h.device_id = d.device_id LEFT JOIN fleetstate.device_state s ON s.device_id = d.device_id`;

async function tenantOf(request) {
  const token = (request.headers.authorization || "").replace("Bearer ", "");
  const hash = createHash("sha256").update(token).digest();
  const { rows } = await pool.query({ name: "token", text: "SELECT tenant_id FROM fleetstate.api_token WHERE hash = $1 AND revoked_at IS NULL", values: [hash] });
  if (rows.length === 0) throw Object.assign(new Error("unauthorized"), { statusCode: 401 });
  return rows[0].tenant_id;
}

fastify.get("/devices/:ueid", async (request, reply) => {
  const tenant = await tenantOf(request);
  const { rows } = await pool.query({
    name: "device", text: `SELECT ${columns} FROM ${tables} WHERE d.ueid = decode($1, 'hex') AND d.tenant_id = $2`, values: [request.params.ueid, tenant] });
  return rows.length ? rows[0] : reply.code(404).send({});
});

fastify.get("/devices", async (request) => {
  const tenant = await tenantOf(request), limit = Number(request.query.limit || 100);
  const { rows } = await pool.query({
    name: "page", text: `SELECT d.device_id AS key, ${columns} FROM ${tables} WHERE d.tenant_id = $1 AND d.device_id > $2 ORDER BY d.device_id LIMIT $3`,
    values: [tenant, request.query.after || 0, limit] });
  return { items: rows.map(({ key, ...row }) => row), next: rows.length === limit ? rows[rows.length - 1].key : null };
});

const cell = (value) => value === null ? "" : value instanceof Date ? value.toISOString() : `"${String(Array.isArray(value) ? value.join(" ") : value).replace(/"/g, '""')}"`;

fastify.get("/devices.csv", async (request, reply) => {
  const tenant = await tenantOf(request), client = await pool.connect();
  const rows = client.query(new QueryStream(`SELECT ${columns} FROM ${tables} WHERE d.tenant_id = $1 ORDER BY d.device_id`, [tenant], { batchSize: 1000 }));
  let names = null;
  const lines = new Transform({
    writableObjectMode: true,
    transform(row, _, done) {
      const head = names ? "" : (names = Object.keys(row)).join(",") + "\r\n";
      done(null, head + names.map((name) => cell(row[name])).join(",") + "\r\n");
    },
  });
  rows.on("end", () => client.release());
  return reply.type("text/csv").send(rows.pipe(lines));
});

fastify.listen({ host: "127.0.0.1", port: Number(process.argv[3]) });
