-- Outpatient body measurements in SI-near units, each marked plausible or not.
--
-- Grain:  one row per omr row and number in it; a blood pressure holds two
-- Key:    reading_id
-- Inputs: raw.omr, seed.measurements
-- Known:  on chartdate
-- Source: MIMIC-IV v3.1, hosp.omr; bounds and factors from etl/vocabulary/measurements.csv
--
-- Values are text: "110/70" is a pressure, "63" a height in inches. A value that is no number or lies
-- outside its bounds stays here, marked, so that it can be counted; no measurement is made of it.

SELECT
    row_number() OVER () AS reading_id,
    omr.subject_id,
    omr.chartdate,
    omr.seq_num,
    rule.quantity,
    TRY_CAST(split_part(omr.result_value, '/', rule.part) AS DOUBLE) * rule.factor AS reading,
    coalesce(reading BETWEEN rule.low AND rule.high, FALSE) AS plausible
FROM raw.omr AS omr
INNER JOIN seed.measurements AS rule USING (result_name)
