-- What omr rows measure, with the unit's factor and the bounds of each number.
--
-- Grain:  one row per result_name that we know; a blood pressure has a second number
-- Key:    result_name
-- Inputs: seed.measurements, seed.rules
-- Known:  always
-- Source: etl/vocabulary/measurements.csv and rules.csv
-- Enum:   quantity

SELECT
    measurements.result_name,
    count(*) AS parts,
    any_value(quantity) FILTER (WHERE part = 1) AS quantity,
    any_value(factor) FILTER (WHERE part = 1) AS factor,
    any_value(factor) FILTER (WHERE part = 2) AS second_factor,
    any_value(low) FILTER (WHERE part = 1) AS low,
    any_value(low) FILTER (WHERE part = 2) AS second_low,
    any_value(high) FILTER (WHERE part = 1) AS high,
    any_value(high) FILTER (WHERE part = 2) AS second_high
FROM seed.measurements AS measurements
INNER JOIN seed.rules AS rules ON rules.rule = measurements.quantity
GROUP BY measurements.result_name
