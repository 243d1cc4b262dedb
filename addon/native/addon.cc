// SPDX-License-Identifier: MIT
#include "ring.h"

namespace {

Napi::Object Init(Napi::Env env, Napi::Object exports) {
  exports.Set("NativeRing", fastio_node::Ring::Define(env));
  fastio_node::DefineSocketFunctions(env, exports);
  return exports;
}

}  // namespace

NODE_API_MODULE(fastio, Init)
