/**
 * `ringbell/metrics`: the counters of endpoints for Prometheus and OpenTelemetry, as a table of contents. What is not exported here is
 * not API.
 *
 * @module metrics
 */
export type { Measured, MetricsSource } from './endpoints.js'
export { type MetricsMeter, openTelemetryMetrics, type OpenTelemetryOptions } from './open-telemetry.js'
export { type Metrics, type MetricsRegister, prometheusMetrics, type PrometheusOptions } from './prometheus.js'
