-- What HAProxy has no words for in DICOMweb: the length of a body that comes in pieces, and a body sent on in pieces.

local function one_of(methods)
  local class = { flags = filter.FLT_CFG_FL_HTX }
  class.__index = class
  for name, method in pairs(methods) do
    class[name] = method
  end
  function class:new()
    return setmetatable({ seen = 0, limit = self.limit }, class)
  end
  return class
end

-- "filter lua.body_limit <bytes>": a body that does not say how long it is ends here when it becomes too long.
local limited = one_of({
  http_headers = function(self, txn, message)
    -- Only storing has a body, and to ask for headers copies them all.
    if message.channel:is_resp() or txn:get_var("txn.service") ~= "Stow" then
      return
    end
    if not message:get_headers()["content-length"] then
      filter.register_data_filter(self, message.channel)
    end
  end,
  http_payload = function(self, txn, message)
    local new = message:input()
    if new < 0x80000000 then -- a negative number, when all has been sent on, comes as a large one
      self.seen = self.seen + new
    end
    if self.seen > self.limit + 1 then -- the end of a body counts as a byte
      txn:set_var("txn.reason", "TooLarge")
      txn:done(txn:reply({ status = 413 }))
      return filter.ERROR
    end
  end,
})

-- "filter lua.body_in_pieces": Orthanc cannot take a large body whose length it is told (decision 31).
local pieces = one_of({
  http_headers = function(_, _, message)
    if not message.channel:is_resp() then
      message:set_body_len("chunked")
    end
  end,
})

core.register_filter("body_limit", limited, function(class, arguments)
  class.limit = math.tointeger(tonumber(arguments[1]))
  return class
end)
core.register_filter("body_in_pieces", pieces, function(class)
  return class
end)
