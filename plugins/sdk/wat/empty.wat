;; A filter in WebAssembly's own text: messages with an empty payload are dropped.
;;
;; The interface `geomq-plugin-1` needs no library. A request is written behind the first page, its result
;; right behind it.
(module
  (memory (export "memory") 2)
  (global (export "geomq_abi") i32 (i32.const 1))
  (global $request i32 (i32.const 65536))

  ;; Room for a request of $size bytes and for its result: a header of 32 bytes, and a verdict for each entry,
  ;; which has at least 48 bytes.
  (func (export "geomq_alloc") (param $size i32) (result i32)
    (local $pages i32)
    (if (i32.gt_u (local.get $size) (i32.const 0x40000000)) (then (return (i32.const 0))))
    (local.set $pages
      (i32.sub
        (i32.shr_u
          (i32.add (i32.add (global.get $request) (i32.add (local.get $size) (i32.shr_u (local.get $size) (i32.const 5))))
                   (i32.const 65663)) ;; the header, its alignment, and a page begun is one
          (i32.const 16))
        (memory.size)))
    (if (i32.gt_s (local.get $pages) (i32.const 0))
      (then (if (i32.eq (memory.grow (local.get $pages)) (i32.const -1)) (then (return (i32.const 0))))))
    (global.get $request))

  ;; There is nothing to configure.
  (func (export "geomq_init") (param $config i32) (param $length i32) (result i32) (i32.const 0))

  (func (export "geomq_process") (param $request i32) (param $length i32) (result i64)
    (local $count i32) (local $entry i32) (local $step i32) (local $result i32) (local $verdict i32)
    (local $end i32) (local $any i32)
    (local.set $count (i32.load offset=4 (local.get $request)))
    (local.set $entry (i32.add (local.get $request) (i32.load offset=24 (local.get $request))))
    (local.set $step (i32.load offset=32 (local.get $request)))
    (local.set $result
      (i32.and (i32.add (i32.add (local.get $request) (local.get $length)) (i32.const 7)) (i32.const -8)))
    (local.set $verdict (i32.add (local.get $result) (i32.const 32)))
    (local.set $end (i32.add (local.get $verdict) (local.get $count)))
    (block $done
      (loop $next
        (br_if $done (i32.eq (local.get $verdict) (local.get $end)))
        ;; 1 is DROP, 0 is PASS: whether the payload's length is 0
        (i32.store8 (local.get $verdict) (i32.eqz (i32.load offset=12 (local.get $entry))))
        (local.set $any (i32.or (local.get $any) (i32.load8_u (local.get $verdict))))
        (local.set $entry (i32.add (local.get $entry) (local.get $step)))
        (local.set $verdict (i32.add (local.get $verdict) (i32.const 1)))
        (br $next)))
    ;; 0 stands for: every message passes
    (if (i32.eqz (local.get $any)) (then (return (i64.const 0))))
    (i32.store (local.get $result) (i32.const 0x31524D47))
    (i32.store offset=4 (local.get $result) (local.get $count))
    (i32.store offset=8 (local.get $result) (i32.const 32))
    ;; neither changes nor effects
    (memory.fill (i32.add (local.get $result) (i32.const 12)) (i32.const 0) (i32.const 20))
    (i64.or (i64.shl (i64.extend_i32_u (local.get $result)) (i64.const 32))
            (i64.extend_i32_u (i32.add (local.get $count) (i32.const 32))))))
