-- Outpatient body measurements in SI-near units, each marked plausible or not.
--
-- Grain:  one row per omr row of a kind we know; a blood pressure holds two numbers
-- Key:    omr_row
-- Inputs: raw.omr, seed.measurements, seed.rules
-- Known:  on chartdate
-- Source: MIMIC-IV v3.1, hosp.omr; units and bounds from etl/vocabulary/measurements.csv and rules.csv
--
-- Values are text: "110/70" is a pressure, "63" a height in inches. A value that is no number or lies
-- outside its bounds stays here, marked, so that it can be counted; no measurement is made of it. A pressure
-- of which one number is implausible is implausible as a whole: half a reading is no reading.

WITH kinds AS (
    SELECT
        measurements.result_name,
        count(*) AS parts,
        any_value(quantity) FILTER (WHERE part = 1) AS quantity,
        any_value(quantity) FILTER (WHERE part = 2) AS second_quantity,
        any_value(factor) FILTER (WHERE part = 1) AS factor,
        any_value(factor) FILTER (WHERE part = 2) AS second_factor,
        any_value(low) FILTER (WHERE part = 1) AS low,
        any_value(low) FILTER (WHERE part = 2) AS second_low,
        any_value(high) FILTER (WHERE part = 1) AS high,
        any_value(high) FILTER (WHERE part = 2) AS second_high
    FROM seed.measurements AS measurements
    INNER JOIN seed.rules AS rules ON rules.rule = measurements.quantity
    GROUP BY measurements.result_name
)

SELECT
    omr.rowid AS omr_row,
    omr.subject_id,
    omr.chartdate,
    omr.seq_num,
    omr.result_value,
    kinds.quantity,
    kinds.second_quantity,
    TRY_CAST(
        CASE WHEN kinds.parts = 1 THEN omr.result_value ELSE split_part(omr.result_value, '/', 1) END AS DOUBLE
    ) * kinds.factor AS reading,
    CASE WHEN kinds.parts = 2
        THEN TRY_CAST(split_part(omr.result_value, '/', 2) AS DOUBLE) * kinds.second_factor
    END AS second_reading,
    coalesce(reading BETWEEN kinds.low AND kinds.high, FALSE) AS first_plausible,
    kinds.parts = 1 OR coalesce(second_reading BETWEEN kinds.second_low AND kinds.second_high, FALSE)
        AS second_plausible,
    first_plausible AND second_plausible AS plausible
FROM raw.omr AS omr
INNER JOIN kinds USING (result_name)
