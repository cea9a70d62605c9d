-- What HAProxy has no words for: the DNS name in a client certificate, an AE title, a list of networks, and the
-- A-ASSOCIATE-RJ PDU. Everything else of the gate is in haproxy.cfg.
-- Binary values come in as hex: raw ones reach Lua cut at their first NUL. Every converter answers "" (which no map
-- holds) for what it does not understand, and none of them can raise: a device chooses these bytes.

local SEQUENCE, OCTET_STRING, OBJECT_ID, BOOLEAN = 0x30, 0x04, 0x06, 0x01
local EXTENSIONS = 0xA3 -- TBSCertificate.extensions, [3] EXPLICIT (RFC 5280 4.1)
local DNS_NAME = 0x82 -- GeneralName.dNSName, [2] IMPLICIT IA5String (RFC 5280 4.2.1.6)
local SUBJECT_ALT_NAME = "\x55\x1d\x11" -- 2.5.29.17

local function unhex(hex)
  if #hex % 2 ~= 0 or hex:find("%X") then
    return nil
  end
  return (hex:gsub("%x%x", function(pair)
    return string.char(tonumber(pair, 16))
  end))
end

-- One DER element that must lie wholly in der[from, to): tag, first content position, position behind it.
local function element(der, from, to)
  if from + 1 >= to then
    return nil
  end
  local tag, length = der:byte(from, from + 1)
  local content = from + 2
  if length >= 0x80 then
    local octets = length - 0x80
    if octets == 0 or octets > 3 or content + octets > to then
      return nil -- indefinite, or longer than any certificate
    end
    length = 0
    for position = content, content + octets - 1 do
      length = length * 256 + der:byte(position)
    end
    content = content + octets
  end
  if content + length > to then
    return nil
  end
  return tag, content, content + length
end

-- Calls visit(tag, content, behind) for each element of der[from, to); false when they do not fill it exactly.
local function each(der, from, to, visit)
  while from < to do
    local tag, content, behind = element(der, from, to)
    if not tag or visit(tag, content, behind) == false then
      return false
    end
    from = behind
  end
  return true
end

local function expect(der, from, to, wanted)
  local tag, content, behind = element(der, from, to)
  if tag ~= wanted then
    return nil
  end
  return content, behind
end

-- Adds the DNS names of one Extension to names; false when it is malformed.
local function names_of_extension(der, from, to, names)
  local id, behind_id = expect(der, from, to, OBJECT_ID)
  if not id then
    return false
  end
  if der:sub(id, behind_id - 1) ~= SUBJECT_ALT_NAME then
    return true
  end
  local value_at = behind_id
  local _, behind_critical = expect(der, value_at, to, BOOLEAN)
  local value, value_end = expect(der, behind_critical or value_at, to, OCTET_STRING)
  local list, list_end
  if value then
    list, list_end = expect(der, value, value_end, SEQUENCE)
  end
  if not list or value_end ~= to or list_end ~= value_end then
    return false
  end
  return each(der, list, list_end, function(tag, content, behind)
    if tag == DNS_NAME then
      names[#names + 1] = der:sub(content, behind - 1)
    end
  end)
end

-- All DNS names of a DER certificate, or nil when it is malformed.
local function dns_names(der)
  local certificate, certificate_end = expect(der, 1, #der + 1, SEQUENCE)
  if not certificate or certificate_end ~= #der + 1 then
    return nil -- also what a certificate larger than HAProxy's buffer looks like
  end
  local tbs, tbs_end = expect(der, certificate, certificate_end, SEQUENCE)
  if not tbs then
    return nil
  end
  local names = {}
  local well_formed = each(der, tbs, tbs_end, function(tag, content, behind)
    if tag ~= EXTENSIONS then
      return true
    end
    local list, list_end = expect(der, content, behind, SEQUENCE)
    return list ~= nil
      and list_end == behind
      and each(der, list, list_end, function(kind, from, to)
        return kind == SEQUENCE and names_of_extension(der, from, to, names)
      end)
  end)
  return well_formed and names or nil
end

-- A converter that answers "" where the function has no answer or fails.
local function guarded(convert)
  return function(value)
    local done, answer = pcall(convert, value)
    return done and answer or ""
  end
end

-- hex of a DER certificate -> its DNS name in lower case, when it has exactly one.
local function only_dns_name(hex)
  local der = unhex(hex)
  local names = der and dns_names(der)
  if not names or #names ~= 1 or #names[1] > 253 or not names[1]:find("^[%w.-]+$") then
    return nil
  end
  return names[1]:lower()
end

-- hex of an AE title's 16 bytes -> the title. PS3.8 table 9-11: leading and trailing spaces are not significant, 16
-- spaces are no title; PS3.5 6.2: no control characters, no backslash.
local function ae_title(hex)
  local padded = unhex(hex)
  if not padded or #padded ~= 16 or padded:find("[^\x20-\x7e]") or padded:find("\\", 1, true) then
    return nil
  end
  return padded:match("^ *(.-) *$")
end

local function within(address, network, bits)
  local digits, rest = bits // 4, bits % 4
  if #address ~= #network or bits > 4 * #network or address:sub(1, digits) ~= network:sub(1, digits) then
    return false
  end
  local function head(hex)
    return tonumber(hex:sub(digits + 1, digits + 1), 16) >> (4 - rest)
  end
  return rest == 0 or head(address) == head(network)
end

-- Whether the address (hex) lies in one of "<hex network>/<bits>,..."; "any" is the archive's own probes' list.
local function source_allowed(address, sources)
  if sources == "any" then
    return true
  end
  address = address:lower():gsub("^00000000000000000000ffff(%x%x%x%x%x%x%x%x)$", "%1") -- IPv4 on a dual-stack socket
  for network, bits in sources:gmatch("(%x+)/(%d+)") do
    if within(address, network, tonumber(bits)) then
      return true
    end
  end
  return false
end

-- PS3.8 table 9-21: PDU type 3, length 4, result, source, reason. The connection is closed behind it.
local function reject(result, source, reason)
  return function(applet)
    applet:send(string.char(3, 0, 0, 0, 0, 4, 0, result, source, reason))
  end
end

core.register_converters("only_dns_name", guarded(only_dns_name))
core.register_converters("ae_title", guarded(ae_title))
core.register_fetches("source_allowed", function(txn)
  local address, sources = txn:get_var("txn.source"), txn:get_var("txn.sources")
  local done, allowed = pcall(source_allowed, address, sources)
  return done and allowed
end)
core.register_service("reject_without_reason", "tcp", reject(1, 2, 1))
core.register_service("reject_protocol_version", "tcp", reject(1, 2, 2))
core.register_service("reject_calling", "tcp", reject(1, 1, 3))
core.register_service("reject_called", "tcp", reject(1, 1, 7))
core.register_service("reject_congestion", "tcp", reject(2, 3, 1))
core.register_service("reject_local_limit", "tcp", reject(2, 3, 2))
