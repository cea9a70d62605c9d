-- Who issued a client certificate, and whose key is in it: for gates that take more authorities than the archive's own.

-- The fields of a DER certificate's TBSCertificate from the serial number on, each as it stands: {tag, whole element}.
local function fields(der)
  local certificate, certificate_end = expect(der, 1, #der + 1, SEQUENCE)
  if not certificate or certificate_end ~= #der + 1 then
    return nil
  end
  local tbs, tbs_end = expect(der, certificate, certificate_end, SEQUENCE)
  if not tbs then
    return nil
  end
  local found, from = {}, tbs
  local well_formed = each(der, tbs, tbs_end, function(tag, _, behind)
    if not (#found == 0 and tag == 0xA0) then -- version, [0] EXPLICIT, is optional (RFC 5280 4.1)
      found[#found + 1] = { tag, der:sub(from, behind - 1) }
    end
    from = behind
  end)
  return well_formed and found or nil
end

-- serialNumber, signature, issuer, validity, subject, subjectPublicKeyInfo (RFC 5280 4.1).
local function field(number)
  return function(hex)
    local der = unhex(hex)
    local found = der and fields(der)
    local one = found and found[number]
    return one and one[1] == SEQUENCE and one[2] or nil
  end
end

-- Whether each certificate that came beside the leaf is one of "<SHA-256>,...".
local function no_stranger(txn, chain, authorities)
  local from = 1
  return each(chain, 1, #chain + 1, function(_, _, behind)
    local hash = txn.c:hex(txn.c:sha2(chain:sub(from, behind - 1), 256)):lower()
    from = behind
    return authorities:find(hash, 1, true) ~= nil
  end)
end

core.register_converters("issuer", guarded(field(3)))
core.register_converters("public_key", guarded(field(6)))
core.register_fetches("no_stranger_in_chain", function(txn)
  local done, answer = pcall(function()
    -- As it is: hex would double it, and stops without a word where a buffer ends. One buffer (128 KiB) holds what
    -- OpenSSL takes in a handshake (100 KiB). nil is a leaf that came alone; sessions are never resumed without.
    local chain, authorities = txn.f:ssl_c_chain_der() or "", txn:get_var("txn.authorities")
    return authorities ~= nil and no_stranger(txn, chain, authorities)
  end)
  return done and answer
end)
