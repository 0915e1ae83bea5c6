-- A request that is no tenant's may be repeated too: an operator makes a tenant.
ALTER TABLE repeatable ALTER COLUMN tenant_id DROP NOT NULL;
