-- Outpatient body measurements in SI-near units, each marked plausible or not.
--
-- Grain:  one row per omr row and number in it; a blood pressure holds two
-- Key:    omr_row, quantity
-- Inputs: raw.omr, seed.measurements
-- Known:  on chartdate
-- Source: MIMIC-IV v3.1, hosp.omr; bounds and factors from etl/vocabulary/measurements.csv
--
-- Values are text: "110/70" is a pressure, "63" a height in inches. A value that is no number or lies
-- outside its bounds stays here, marked, so that it can be counted; no measurement is made of it. A pressure
-- of which one number is implausible is implausible as a whole: half a reading is no reading.

WITH numbered AS (
    SELECT
        row_number() OVER () AS omr_row,
        subject_id,
        chartdate,
        seq_num,
        result_name,
        result_value
    FROM raw.omr
),

numbers AS (
    SELECT
        numbered.omr_row,
        numbered.subject_id,
        numbered.chartdate,
        numbered.seq_num,
        numbered.result_value,
        rule.quantity,
        TRY_CAST(split_part(numbered.result_value, '/', rule.part) AS DOUBLE) * rule.factor AS reading,
        coalesce(reading BETWEEN rule.low AND rule.high, FALSE) AS within_bounds
    FROM numbered
    INNER JOIN seed.measurements AS rule USING (result_name)
)

SELECT
    omr_row,
    subject_id,
    chartdate,
    seq_num,
    result_value,
    quantity,
    reading,
    bool_and(within_bounds) OVER (PARTITION BY omr_row) AS plausible
FROM numbers
