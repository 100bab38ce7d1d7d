-- The roles of docker-compose.yml's Postgres, made with its volume: see docs/operating.md, Roles.
\getenv owner OWNER_PASSWORD
\getenv serving POSTGRES_PASSWORD
CREATE ROLE patchbay_owner LOGIN PASSWORD :'owner';
CREATE ROLE patchbay LOGIN PASSWORD :'serving';
CREATE DATABASE patchbay OWNER patchbay_owner ENCODING 'UTF8' LOCALE 'C.UTF-8' TEMPLATE template0;
REVOKE ALL ON DATABASE patchbay FROM PUBLIC;
GRANT CONNECT ON DATABASE patchbay TO patchbay;
-- The image gave the superuser the serving role's password. Without one it signs in within the container only.
ALTER ROLE postgres PASSWORD NULL;
